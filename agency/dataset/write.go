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
	// rowBytesMax is enough for any row of CSV. A longer row would only cost an allocation.
	rowBytesMax = 160
	// rowsPerWrite is how many rows are gathered before they are written. It limits memory.
	rowsPerWrite = 512

	// Any user who runs agencies must be able to read the files, such as an unprivileged user in a
	// container.
	fileMode   = 0o644
	folderMode = 0o755
)

// archiveTime is the time of all entries of archives, so that the same seed always gives the same
// archive.
var archiveTime = time.Date(2026, time.November, 23, 0, 0, 0, 0, time.UTC)

// FileName returns the name of an agency's file in an archive or a folder: agency-<id>.csv.
func FileName(agency int) string { return fmt.Sprintf("agency-%d.csv", agency) }

// WriteAgency writes the CSV file of one agency, 1 to len(s.Agencies), to w. It writes pieces of at
// most 82 kB, and stops between them when ctx is done. Errors are [ErrInvalidSpec], ctx's cause,
// and w's own.
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

// WriteZipFile writes the archive to the file path. Without overwrite it returns an error that
// wraps [fs.ErrExist] if the file exists already. The file appears under its name only when it is
// complete; after an error the old file is still there.
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

// WriteDir writes every agency's file to the folder dir, and makes the folder if necessary. Without
// overwrite it returns an error that wraps [fs.ErrExist], before it writes anything, if one of the
// files exists already. It doesn't touch other files in the folder. Each file appears under its
// name only when it is complete; after an error the completed files stay.
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

// writeFile writes to a temporary file beside path, then renames it to path. It doesn't sync,
// because a dataset that is lost in a power failure can be made again from its seed.
func writeFile(path string, write func(io.Writer) error) (err error) {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// The first error is returned. These two calls only clean up.
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
