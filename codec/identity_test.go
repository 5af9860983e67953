package codec

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func parseURIs(t *testing.T, texts []string) []*url.URL {
	t.Helper()
	uris := make([]*url.URL, len(texts))
	for i, text := range texts {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		uris[i] = uri
	}
	return uris
}

func TestParseIdentity(t *testing.T) {
	for _, test := range []struct {
		uris []string
		want Identity // zero: refused
	}{
		{[]string{"spiffe://lottery/server/7"}, Identity{"lottery", IdentityServer, 7}},
		{[]string{"spiffe://lottery/server/18446744073709551615"}, Identity{"lottery", IdentityServer, 1<<64 - 1}},
		{[]string{"spiffe://lottery.example/agency/7"}, Identity{"lottery.example", IdentityAgency, 7}},
		{[]string{"spiffe://Lottery/agency/7"}, Identity{"Lottery", IdentityAgency, 7}},
		{[]string{"spiffe://lottery/agency/999999999"}, Identity{"lottery", IdentityAgency, 999_999_999}},
		{[]string{"spiffe://lottery/agency/1000000000"}, Identity{}},
		{nil, Identity{}},
		{[]string{"spiffe://lottery/agency/7", "spiffe://lottery/agency/8"}, Identity{}},
		{[]string{"spiffe://lottery/agency/7", "spiffe://lottery/agency/7"}, Identity{}},
		{[]string{"spiffe://lottery/board/7"}, Identity{}},
		{[]string{"spiffe://lottery/Agency/7"}, Identity{}},
		{[]string{"spiffe://lottery//7"}, Identity{}},
		{[]string{"spiffe://lottery/agency"}, Identity{}},
		{[]string{"spiffe://lottery/agency/"}, Identity{}},
		{[]string{"spiffe://lottery/agency/0"}, Identity{}},
		{[]string{"spiffe://lottery/server/0"}, Identity{}},
		{[]string{"spiffe://lottery/agency/07"}, Identity{}},
		{[]string{"spiffe://lottery/server/07"}, Identity{}},
		{[]string{"spiffe://lottery/agency/+7"}, Identity{}},
		{[]string{"spiffe://lottery/agency/x"}, Identity{}},
		{[]string{"spiffe://lottery/agency/%37"}, Identity{}},
		{[]string{"spiffe://lottery/agency/7/"}, Identity{}},
		{[]string{"spiffe://lottery/agency/7/8"}, Identity{}},
		{[]string{"spiffe://lottery//agency/7"}, Identity{}},
		{[]string{"https://lottery/agency/7"}, Identity{}},
		{[]string{"spiffe:///agency/7"}, Identity{}},
		{[]string{"spiffe:agency/7"}, Identity{}},
		{[]string{"spiffe://me@lottery/agency/7"}, Identity{}},
		{[]string{"spiffe://lottery/agency/7?x"}, Identity{}},
		{[]string{"spiffe://lottery/agency/7?"}, Identity{}},
		{[]string{"spiffe://lottery/agency/7#x"}, Identity{}},
		{[]string{"spiffe://lottery/server/18446744073709551616"}, Identity{}},
	} {
		got, err := ParseIdentity(parseURIs(t, test.uris))
		switch {
		case got != test.want:
			t.Errorf("ParseIdentity(%q) = %+v, %v; want %+v", test.uris, got, err, test.want)
		case got == Identity{}:
			if !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), "want one, spiffe://DOMAIN") {
				t.Errorf("ParseIdentity(%q): %v", test.uris, err)
			}
		case err != nil || got.String() != test.uris[0]:
			t.Errorf("ParseIdentity(%q) = %s, %v", test.uris, got, err)
		}
	}
}

// An identity is written as it was read, and says who it is by its parts alone.
func FuzzParseIdentity(f *testing.F) {
	for _, text := range []string{
		"spiffe://lottery/server/7", "spiffe://lottery/agency/7", "spiffe://lottery/agency/07",
		"spiffe://lottery/agency/7?", "spiffe://a:b@lottery/agency/7", "spiffe://lottery:1/agency/7",
		"spiffe://[::1]/server/1", "spiffe://%C3%A9/server/1", "SPIFFE://lottery/agency/999999999",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := url.Parse(text)
		if err != nil {
			t.Skip("no URI")
		}
		i, err := ParseIdentity([]*url.URL{uri})
		if err != nil {
			if !errors.Is(err, ErrIdentity) || i != (Identity{}) {
				t.Fatalf("%q: %+v, %v", text, i, err)
			}
			return
		}
		idMax, isKind := map[IdentityKind]uint64{IdentityServer: 1<<64 - 1, IdentityAgency: 999_999_999}[i.Kind]
		if i.String() != uri.String() || !isKind || i.ID == 0 || i.ID > idMax || i.Domain == "" || uri.User != nil {
			t.Fatalf("%q is read as %+v", text, i)
		}
		if again, err := ParseIdentity([]*url.URL{i.URI()}); again != i || err != nil {
			t.Fatalf("%+v is read again as %+v, %v", i, again, err)
		}
	})
}
