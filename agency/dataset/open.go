package dataset

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

var (
	// ErrNoAgencyFile says that a folder or an archive has no file for the agency.
	ErrNoAgencyFile = errors.New("no file for this agency")
	// ErrNotZip says that a file whose name ends in .zip can't be read as a zip archive.
	ErrNotZip = errors.New("not a readable zip archive")
)

// zipEncrypted is the flag of an encrypted entry (APPNOTE 4.4.4).
const zipEncrypted = 1

// Open opens the bets of one agency. path is a folder or an archive (a name that ends in .zip, in
// upper or lower case) with agency-<id>.csv at its top, or the agency's CSV file itself. Open
// returns the stream, which the caller closes, and its name for messages, such as
// dataset.zip:agency-3.csv.
//
// Errors name the file. They wrap [ErrNoAgencyFile], [ErrNotZip] or the operating system's error,
// such as [io/fs.ErrNotExist]. If an archive's entry is damaged, reading it returns an error.
func Open(path string, agency int) (io.ReadCloser, string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, "", fmt.Errorf("%s: %w: name a CSV file, or a zip or folder that holds %s",
			path, os.ErrNotExist, FileName(agency))
	case err != nil:
		return nil, "", err
	case info.IsDir():
		return openInFolder(path, agency)
	case strings.EqualFold(filepath.Ext(path), ".zip"):
		return openInArchive(path, agency)
	default:
		return openFile(path)
	}
}

// OpenFirst opens the bets of one agency at the first of paths that has them, as [Open] does. It
// skips paths that don't exist or have no file for the agency; any other error ends the search. If
// no path has them, the error wraps the errors of all paths.
func OpenFirst(paths []string, agency int) (io.ReadCloser, string, error) {
	var missing error
	for _, path := range paths {
		bets, name, err := Open(path, agency)
		switch {
		case err == nil:
			return bets, name, nil
		case !errors.Is(err, ErrNoAgencyFile) && !errors.Is(err, os.ErrNotExist):
			return nil, "", err
		case missing == nil:
			missing = err
		default:
			missing = fmt.Errorf("%w; %w", missing, err) // on one line, unlike errors.Join
		}
	}
	if missing == nil {
		missing = fmt.Errorf("no path: %w", os.ErrNotExist)
	}
	return nil, "", missing
}

func openFile(path string) (io.ReadCloser, string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	return file, path, nil
}

func openInFolder(dir string, agency int) (io.ReadCloser, string, error) {
	path := filepath.Join(dir, FileName(agency))
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.IsDir() {
		return nil, "", noAgencyFile(dir, agency)
	}
	return openFile(path)
}

func openInArchive(path string, agency int) (io.ReadCloser, string, error) {
	archive, err := zip.OpenReader(path)
	if _, system := errors.AsType[*fs.PathError](err); system {
		return nil, "", err
	}
	if err != nil {
		// zip.ErrFormat, or io.ErrUnexpectedEOF if the archive's directory is cut.
		return nil, "", fmt.Errorf("%s: %w: make it again, or name a CSV file or a folder", path, ErrNotZip)
	}
	entry, err := openEntry(&archive.Reader, path, agency)
	if err != nil {
		return nil, "", errors.Join(err, archive.Close())
	}
	return &archiveEntry{ReadCloser: entry, archive: archive}, entryName(path, agency), nil
}

// openEntry finds the entry by its exact name. The archive's own Open would also clean up the names
// of entries.
func openEntry(archive *zip.Reader, path string, agency int) (io.ReadCloser, error) {
	for _, file := range archive.File {
		if file.Name != FileName(agency) {
			continue
		}
		if file.Flags&zipEncrypted != 0 {
			return nil, fmt.Errorf("%s: %w: it is encrypted: unpack it into a folder and name that",
				entryName(path, agency), ErrNotZip)
		}
		entry, err := file.Open()
		if err != nil {
			return nil, fmt.Errorf("%s: %w (%v): make it again, or unpack it into a folder and name that",
				entryName(path, agency), ErrNotZip, err)
		}
		return entry, nil
	}
	return nil, noAgencyFile(path, agency)
}

func entryName(path string, agency int) string { return path + ":" + FileName(agency) }

func noAgencyFile(path string, agency int) error {
	return fmt.Errorf("%s: %w: it holds no %s at its top: check the agency's id, or make a dataset of %d agencies",
		path, ErrNoAgencyFile, FileName(agency), agency)
}

// archiveEntry is an entry that closes its archive when it is closed.
type archiveEntry struct {
	io.ReadCloser
	archive io.Closer
}

func (e *archiveEntry) Close() error {
	return errors.Join(e.ReadCloser.Close(), e.archive.Close())
}
