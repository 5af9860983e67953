package dataset_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"loteria/agency/dataset"
)

// fuzzReadBytesMax is how much of an entry is read at most, since a small archive may hold a huge
// entry.
const fuzzReadBytesMax = 64 << 10

// FuzzArchive opens arbitrary bytes as a zip archive. Open succeeds exactly if archive/zip finds
// and opens the agency's file. Its error names the archive and the problem.
func FuzzArchive(f *testing.F) {
	spec, err := dataset.Sized(2, 3)
	if err != nil {
		f.Fatal(err)
	}
	var archive bytes.Buffer
	if err := spec.WriteZip(context.Background(), &archive); err != nil {
		f.Fatal(err)
	}
	f.Add(archive.Bytes())
	f.Add(archive.Bytes()[:archive.Len()-1])                                           // cut
	f.Add(archive.Bytes()[10:])                                                        // its beginning is lost
	f.Add(bytes.ReplaceAll(archive.Bytes(), []byte("agency-1."), []byte("agency-9."))) // another agency's
	f.Add(bytes.ReplaceAll(archive.Bytes(), []byte("PK\x01\x02"), []byte("PK\x01\x03")))
	path := filepath.Join(f.TempDir(), "bets.zip")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		entry := agencyEntry(data)
		bets, name, err := dataset.Open(path, 1)
		if err != nil {
			if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") ||
				!errors.Is(err, dataset.ErrNoAgencyFile) && !errors.Is(err, dataset.ErrNotZip) {
				t.Fatalf("%q", err)
			}
			if entry != nil && entry.Flags&1 == 0 {
				if _, errOpen := entry.Open(); errOpen == nil {
					t.Fatalf("archive/zip opens the agency's file: %v", err)
				}
			}
			return
		}
		if entry == nil || name != path+":agency-1.csv" {
			t.Fatalf("opens as %s; archive/zip has %v", name, entry)
		}
		n, err := io.Copy(io.Discard, io.LimitReader(bets, fuzzReadBytesMax))
		if err == nil && n < fuzzReadBytesMax && uint64(n) != entry.UncompressedSize64 {
			t.Fatalf("%d bytes, and the archive says %d", n, entry.UncompressedSize64)
		}
		// After damage, Close may return the same error again.
		if errClose := bets.Close(); errClose != nil && err == nil {
			t.Fatal(errClose)
		}
	})
}

// agencyEntry returns the entry of agency 1, or nil.
func agencyEntry(archive []byte) *zip.File {
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil
	}
	for _, file := range r.File {
		if file.Name == "agency-1.csv" {
			return file
		}
	}
	return nil
}
