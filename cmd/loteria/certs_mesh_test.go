package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"
	"time"

	"loteria/engine/mesh"
)

// The servers' certificates are what package mesh takes for an identity; the agencies' are not.
func TestCertsAreIdentities(t *testing.T) {
	dir := t.TempDir()
	options := certsOptions{out: dir, servers: 2, agencies: 1, domain: "loteria", days: 1}
	if err := runCerts(t.Context(), options, time.Now(), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	open := func(name string) (*mesh.Identity, error) {
		path := func(file string) string { return filepath.Join(dir, file) }
		return mesh.OpenIdentity(path(name+".pem"), path(name+"-key.pem"), path("ca.pem"))
	}
	for id := uint64(1); id <= 2; id++ {
		identity, err := open(fmt.Sprintf("server-%d", id))
		if err != nil || identity.ID() != id {
			t.Errorf("server %d is %v, %v", id, identity, err)
		}
	}
	if _, err := open("agency-1"); !errors.Is(err, mesh.ErrIdentity) {
		t.Errorf("an agency's certificate: %v", err)
	}
}
