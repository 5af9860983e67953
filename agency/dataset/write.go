package dataset

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	// rowBytesMax bounds a row of CSV. (A longer one would only cost an allocation.)
	rowBytesMax = 160
	// rowsPerWrite bounds memory: rows gathered before they are written.
	rowsPerWrite = 512

	// Whoever runs the agencies, such as an unprivileged user in a container,
	// shall be able to read the files.
	fileMode   = 0o644
	folderMode = 0o755
)

// archiveTime is the time of every archive's entries: the same seed shall give
// the same archive whenever it is made.
var archiveTime = time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)

// FileName returns the name of an agency's file in an archive or a folder: agency-<id>.csv.
func FileName(agency int) string { return fmt.Sprintf("agency-%d.csv", agency) }

// WriteAgency writes the CSV file of one agency, 1 to len(s.Agencies), to w, in
// pieces of at most 80 kB, and stops between them when ctx ends. Errors are
// [ErrInvalidSpec], the cause of ctx's end, and w's own.
func (s Spec) WriteAgency(ctx context.Context, w io.Writer, agency int) error {
	if err := s.validateAgency(agency); err != nil {
		return err
	}
	bets := s.Agencies[agency-1].Bets
	generator := newGenerator(s, agency)
	buffer := make([]byte, 0, min(bets, rowsPerWrite)*rowBytesMax)
	for bets > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rows := min(bets, rowsPerWrite)
		bets -= rows
		buffer = buffer[:0]
		for range rows {
			buffer = generator.appendBet(buffer)
		}
		if _, err := w.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// WriteZip writes an archive with the file of every agency to w, as a stream.
// Errors are as for [Spec.WriteAgency].
func (s Spec) WriteZip(ctx context.Context, w io.Writer) error {
	if err := s.Validate(); err != nil {
		return err
	}
	archive := zip.NewWriter(w)
	for i := range s.Agencies {
		entry, err := archive.CreateHeader(&zip.FileHeader{
			Name:     FileName(i + 1),
			Method:   zip.Deflate,
			Modified: archiveTime,
		})
		if err != nil {
			return err
		}
		if err := s.WriteAgency(ctx, entry, i+1); err != nil {
			return err
		}
	}
	return archive.Close()
}

// WriteZipFile writes the archive to the file path. Unless overwrite is set, it returns
// an error that wraps [fs.ErrExist] if there is one already. The file appears under
// its name when it is complete; after an error what was there before is still there.
func (s Spec) WriteZipFile(ctx context.Context, path string, overwrite bool) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !overwrite {
		if err := mustNotExist(path); err != nil {
			return err
		}
	}
	return writeFile(path, func(w io.Writer) error { return s.WriteZip(ctx, w) })
}

// WriteDir writes every agency's file to the folder dir, which it makes if need be. Unless
// overwrite is set, it returns an error that wraps [fs.ErrExist], before
// writing anything, if one of the files is there already; other files in the folder stay as
// they are. Each file appears under its name when it is complete; after an error
// those completed before stay.
func (s Spec) WriteDir(ctx context.Context, dir string, overwrite bool) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !overwrite {
		for i := range s.Agencies {
			if err := mustNotExist(filepath.Join(dir, FileName(i+1))); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return err
	}
	for i := range s.Agencies {
		err := writeFile(filepath.Join(dir, FileName(i+1)), func(w io.Writer) error {
			return s.WriteAgency(ctx, w, i+1)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func mustNotExist(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return fmt.Errorf("%s: %w", path, fs.ErrExist)
	case os.IsNotExist(err):
		return nil
	default:
		return err
	}
}

// writeFile writes to a temporary file beside path, then renames it to path. It doesn't
// sync: a dataset that a power failure took is made again from its seed.
func writeFile(path string, write func(io.Writer) error) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// The first error is the one to tell; these two only tidy up after it.
			_ = temporary.Close()
			_ = os.Remove(temporary.Name())
		}
	}()
	if err := write(temporary); err != nil {
		return err
	}
	if err := temporary.Chmod(fileMode); err != nil {
		return err
	}
	if err := temporary.Close(); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
