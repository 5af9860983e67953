package channel

import (
	"errors"
	"os"
	"testing"
	"time"

	"loteria/codec/certtest"
)

// New files count for the connections that come from then on. What is no certificate changes nothing,
// and is an error once, or whenever somebody asks.
func TestReload(t *testing.T) {
	authority := certtest.New(t)
	f := authority.Files(t, certtest.Server(1), authority)
	c, err := Open(Files{Certificate: f.Cert, Key: f.Key, ClientCA: f.CA})
	if err != nil {
		t.Fatal(err)
	}
	reload := func(always, wantChanged bool, want error) {
		t.Helper()
		if changed, err := c.Reload(always); changed != wantChanged || !errors.Is(err, want) {
			t.Errorf("changed %t, %v; want %t, %v", changed, err, wantChanged, want)
		}
	}
	reload(false, false, nil)
	old := c.Expiry()
	paper := certtest.Server(1)
	paper.NotAfter = time.Now().Add(48 * time.Minute)
	f.Write(t, authority.Issue(t, paper))
	reload(false, true, nil)
	reload(false, false, nil)
	renewed := c.Expiry()
	if renewed.Equal(old) {
		t.Errorf("it still ends at %v", old)
	}

	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	write(f.Key, "no key")
	reload(false, false, ErrCredentials)
	reload(false, false, nil)           // that was said
	reload(true, false, ErrCredentials) // but now somebody asks
	f.Write(t, certtest.New(t).Issue(t, paper))
	write(f.Key, string(good)) // of another certificate
	reload(false, false, ErrCredentials)
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	reload(false, false, os.ErrNotExist)
	reload(false, false, nil)
	if !c.Expiry().Equal(renewed) {
		t.Error("a useless file has changed the certificate")
	}
	f.Write(t, authority.Issue(t, certtest.Server(1)))
	reload(false, true, nil)
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		t.Fatal(err)
	}
	write(f.CA, "nobody")
	reload(false, false, ErrCredentials)
	write(f.CA, string(ca))
	reload(false, false, nil)
	if err := os.Remove(f.Cert); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Files{Certificate: f.Cert, Key: f.Key}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a certificate: %v", err)
	}
}
