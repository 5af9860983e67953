package front

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"loteria/codec"
	"loteria/engine/settings"
)

func TestReadSecrets(t *testing.T) {
	const both = "1 " + sesame1 + "\n2 " + sesame2 + "\n"
	for _, test := range []struct {
		name, file string
		wrong      string // in the error; empty if the file is legal
	}{
		{"a line each", both, ""},
		{"no last line end", strings.TrimSuffix(both, "\n"), ""},
		{"CRLF", strings.ReplaceAll(both, "\n", "\r\n"), ""},
		{"any order, any space, comments", "# two agencies\n\n  2\t" + sesame2 + "  \n\t# 3 nobody-expects-this\n1   " + sesame1, ""},
		{"nothing", "", "agencies without a secret: 1, 2: give each a line"},
		{"one missing", "1 " + sesame1, "agencies without a secret: 2:"},
		{"a number only", both + "2\n", "line 3 has 1 fields: want an agency's id and its secret"},
		{"a secret only", "1 " + sesame1 + "\n" + sesame2 + "\n", "line 2 has 1 fields"},
		{"a secret with a space", "1 " + sesame1 + " \n2 sesame of agency two", "line 2 has 5 fields"},
		{"the wrong way round", "\n" + sesame1 + " 1\n", "line 2 does not begin with an agency's id"},
		{"id with a leading zero", "01 " + sesame1, "line 1 does not begin with an agency's id"},
		{"agency 0", "0 " + sesame1, "line 1: agency 0 is not expected: want 1 to SERVER_AGENCIES=2"},
		{"agency 3", both + "3 " + sesame1, "line 3: agency 3 is not expected: want 1 to SERVER_AGENCIES=2"},
		{"agency of nine digits", "999999999 " + sesame1, "line 1: agency 999999999 is not expected"},
		{"twice", both + "\n1 " + sesame2, "line 4: agency 1 has a secret on an earlier line"},
		{"the shortest", strings.Replace(both, sesame1, "sesame-of-agen-1", 1), ""},
		{"too short", "1 sesame-of-a-1", "line 1: agency 1: secret is not legal: want 16 to 64 printable"},
		{"too long", "1 " + strings.Repeat("sesame-", 10), "line 1: agency 1: secret is not legal"},
		{"not ASCII", "1 sésamo-de-la-agencia-1", "line 1: agency 1: secret is not legal"},
		{"a line without an end", "1 " + strings.Repeat("sesame-", 10_000), "line 1: bufio.Scanner: token too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readSecrets(strings.NewReader(test.file), 2)
			if test.wrong == "" {
				if err != nil || len(got) != 2 {
					t.Fatalf("%d secrets, %v", len(got), err)
				}
				if got[1].Prove(codec.Nonce{}, 2) != mustSecret(t, sesame2).Prove(codec.Nonce{}, 2) {
					t.Error("agency 2 has another secret")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("error %v, want one with %q", err, test.wrong)
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the error says a secret: %v", err)
			}
		})
	}
}

// One warning tells of all agencies that share a secret, and doesn't show the secret.
func TestSharedSecrets(t *testing.T) {
	const same = " have the same secret"
	for _, test := range []struct {
		name   string
		owners []int // for each agency, whose secret it has
		says   string
	}{
		{"one agency", []int{1}, ""},
		{"each its own", []int{1, 2, 3, 4}, ""},
		{"the first two", []int{1, 1, 3, 4}, "agencies 1 and 2" + same + ": each"},
		{"the last two", []int{1, 2, 3, 3}, "agencies 3 and 4" + same + ": each"},
		{"apart", []int{1, 2, 3, 1}, "agencies 1 and 4" + same + ": each"},
		{"three", []int{1, 2, 2, 2}, "agencies 2 and 3" + same + ", and 1 more have"},
		{"two pairs", []int{1, 2, 2, 1}, "agencies 2 and 3" + same + ", and 1 more have"},
		{"all", []int{9, 9, 9, 9}, "agencies 1 and 2" + same + ", and 2 more have"},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "secrets")
			var lines strings.Builder
			for i, owner := range test.owners {
				fmt.Fprintf(&lines, "%d sesame-of-agency-%d\n", i+1, owner)
			}
			if err := os.WriteFile(name, []byte(lines.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			core, logged := observer.New(zap.WarnLevel)
			if _, err := OpenSecrets(name, len(test.owners), zap.New(core)); err != nil {
				t.Fatal(err)
			}
			warnings := logged.FilterMessage("config").FilterField(zap.String("SERVER_AGENCY_SECRETS_FILE", name)).All()
			if logged.Len() != len(warnings) || (len(warnings) == 1) != (test.says != "") {
				t.Fatalf("warnings %v, want %q", logged.All(), test.says)
			}
			if test.says != "" {
				if aviso := warnings[0].ContextMap()["aviso"].(string); !strings.HasPrefix(aviso, test.says) || strings.Contains(aviso, "sesame") {
					t.Errorf("it says %q, want %q", aviso, test.says)
				}
			}
		})
	}
}

func TestOpenSecrets(t *testing.T) {
	for _, test := range []struct {
		name    string
		content string
		mode    os.FileMode
		missing bool
		wrong   string
		warned  bool
	}{
		{name: "private", content: "1 " + sesame1, mode: 0o600},
		{name: "for a group", content: "1 " + sesame1, mode: 0o640},
		{name: "for everybody", content: "1 " + sesame1, mode: 0o644, warned: true},
		{name: "a mistake", content: "1 x", mode: 0o600, wrong: "line 1: agency 1: secret is not legal"},
		{name: "not there", missing: true, wrong: "no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			name := filepath.Join(dir, "secrets")
			if !test.missing {
				if err := os.WriteFile(name, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(name, test.mode); err != nil { // whatever the umask is
					t.Fatal(err)
				}
			}
			core, logged := observer.New(zap.DebugLevel)
			secrets, err := OpenSecrets(name, 1, zap.New(core))
			if test.wrong != "" {
				if !errors.Is(err, settings.ErrIllegal) || !strings.Contains(err.Error(), "SERVER_AGENCY_SECRETS_FILE") || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("error %v, want one with %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if warnings := logged.FilterMessage("config").FilterLevelExact(zap.WarnLevel).FilterField(zap.String("SERVER_AGENCY_SECRETS_FILE", name)).Len(); (warnings == 1) != test.warned {
				t.Errorf("%d warnings", warnings)
			}
			first, second := randomNonce(), randomNonce()
			if first == second || first == (codec.Nonce{}) {
				t.Errorf("challenges %x and %x: want a new one each time", first, second)
			}
			for a := range codec.Agency(3) {
				if secrets.verify(a, first, mustSecret(t, sesame1).Prove(first, a)) != (a == 1) {
					t.Errorf("agency %d: only agency 1 has this secret", a)
				}
				if secrets.verify(a, first, secrets.decoy.Prove(first, a)) {
					t.Errorf("agency %d: verified with the decoy", a)
				}
			}
		})
	}
}
