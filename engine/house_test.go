package engine_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// house are the packages from the inside out. A package imports only packages that stand before it.
var house = []string{
	"loteria/codec",
	"loteria/codec/certtest",
	"loteria/engine/settings",
	"loteria/engine/mutationtest",
	"loteria/engine/ledger",
	"loteria/engine/ledger/ledgertest",
	"loteria/engine/lottery",
	"loteria/engine/channel",
	"loteria/engine/mesh",
	"loteria/engine/relay",
	"loteria/engine/history",
	"loteria/engine/admin/board",
	"loteria/engine/admin/board/boardtest",
	"loteria/engine/admin",
	"loteria/engine/commit",
	"loteria/engine/replica",
	"loteria/engine/replica/replicatest",
	"loteria/engine/member",
	"loteria/engine/front",
	"loteria/engine/front/fronttest",
	"loteria/engine",
	"loteria/agency",
	"loteria/agency/dataset",
	"loteria/agency/load/proc",
	"loteria/agency/load",
	"loteria/cmd/loteria",
}

// Imports point inward. Only the engine package itself puts servers together.
func TestImportsPointInward(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "loteria/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		at := slices.Index(house, words[0])
		for _, imported := range words[1:] {
			if !strings.HasPrefix(imported, "loteria/") {
				continue
			}
			if at < 0 {
				t.Errorf("%s has no place in the house", words[0])
			} else if in := slices.Index(house, imported); in < 0 || in >= at {
				t.Errorf("%s imports %s, which is not further inside", words[0], imported)
			}
			if imported == "loteria/engine" && words[0] != "loteria/cmd/loteria" || strings.HasPrefix(words[0], "loteria/engine") && strings.HasPrefix(imported, "loteria/agency") {
				t.Errorf("%s imports %s", words[0], imported)
			}
		}
	}
}
