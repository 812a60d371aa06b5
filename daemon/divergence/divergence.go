// Package divergence keeps what a node alone may have. From the moment a node
// records another's higher epoch until it has joined again, whatever an op would
// overwrite or remove of its replica is copied first and synced, and only then
// the op is applied (RULES.md 9, Archive and ArchiveAny).
//
//	divergence.go  where it is kept, and what is said of it
//	manifest.go    the lines that say what was where
//	keeper.go      keeps what an op takes, before it is applied
//	gather.go      what that is
//	mark.go        what is kept already, or is the primary's
//	origin.go      where things stood before they were renamed
//	batch.go       writes it, syncs it, and stays within the limit
//	archive.go     reads what was kept
//	export.go      makes files of it again
//	compare.go     holds it against the replica of today; lines.go by lines
//
// # On disk
//
// Each divergence has a directory, STATE/divergence/ID, which appears with all
// its files in it:
//
//	header    Header as JSON
//	manifest  one Item a line, as JSON, in the order in which they were kept
//	data      the contents, back to back; an item says from where to where
//	closed    Closed as JSON, as soon as nothing is added any more
//
// An ID is the time of the beginning and the number of the epoch that ended the
// node's own: 20261127T090051Z-4. The same epoch goes on with the same directory,
// also after a restart; a higher one begins another.
//
// A line of the manifest ends in `,"sum":"89abcdef"}`: the CRC-32C of all of the
// line before that, in hexadecimal. Its data is on stable storage before the line
// is written, and the line before the op is applied. So a last line that is torn
// belongs to an op that was never applied: nothing is lost with it.
//
// Items of one inode are of one object. Where two cover the same bytes the first
// counts: it is what stood there when the divergence began. Paths are those of
// that moment, too, as far as this process has seen the renames since.
package divergence

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
)

// DefaultLimit is how much is kept unless the configuration says otherwise.
const DefaultLimit = 10 << 30

const format = 1

// Header is what is known when a divergence begins.
type Header struct {
	Format int       `json:"format"`
	ID     string    `json:"id"`
	Began  time.Time `json:"began"`
	// Epoch ended the reign that the content is of, and Before is the highest
	// one that the node knew until then.
	Epoch  op.Epoch `json:"epoch"`
	Before op.Epoch `json:"before"`
	// Device is that of the replica's root. An item without one is of the same.
	Device uint64 `json:"device"`
}

// Closed says how a divergence ended.
type Closed struct {
	When   time.Time `json:"when"`
	Joined bool      `json:"joined"`
	How    string    `json:"how"`
}

// The names below the state directory, and in the directory of a divergence.
const (
	folder       = "divergence"
	headerFile   = "header"
	manifestFile = "manifest"
	dataFile     = "data"
	closedFile   = "closed"

	// What begins so is being made or being dropped.
	hidden = "."
)

func homeOf(stateDir string) string { return filepath.Join(stateDir, folder) }

// ids returns the divergences of a node, oldest first.
func ids(stateDir string) ([]string, error) {
	entries, err := os.ReadDir(homeOf(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list divergences: %w", err)
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), hidden) {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// Kept returns how many divergences are kept and how many bytes they take.
func Kept(stateDir string) (count int, bytes int64, err error) {
	all, err := ids(stateDir)
	if err != nil {
		return 0, 0, err
	}
	for _, id := range all {
		manifest, data, err := sizes(filepath.Join(homeOf(stateDir), id))
		if err != nil {
			return 0, 0, err
		}
		if manifest > 0 {
			count++
		}
		bytes += manifest + data
	}
	return count, bytes, nil
}

// sizes returns those of a divergence's files. One that was dropped just now
// has none.
func sizes(dir string) (manifest, data int64, err error) {
	for name, n := range map[string]*int64{manifestFile: &manifest, dataFile: &data} {
		st, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, 0, fmt.Errorf("measure divergence: %w", err)
		}
		*n = st.Size()
	}
	return manifest, data, nil
}

// CloseAll ends every divergence that is open, but the one of the epoch except:
// the node has joined, or another epoch's content is there by now.
func CloseAll(stateDir string, except op.Epoch, how Closed) error {
	return eachOpen(stateDir, func(dir string, h Header) error {
		if except != (op.Epoch{}) && h.Epoch == except {
			return nil
		}
		return closeDir(dir, how)
	})
}

// eachOpen calls fn with each divergence that is not closed.
func eachOpen(stateDir string, fn func(dir string, h Header) error) error {
	all, err := ids(stateDir)
	if err != nil {
		return err
	}
	for _, id := range all {
		dir := filepath.Join(homeOf(stateDir), id)
		h, closed, err := readHead(dir)
		if err == nil && closed == nil {
			err = fn(dir, h)
		}
		if err != nil && !vanished(dir) {
			return err
		}
	}
	return nil
}

// vanished reports whether a divergence is not there any more: somebody has
// dropped it meanwhile.
func vanished(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// sweep removes what a kill has left half made or half dropped.
func sweep(stateDir string) error {
	entries, err := os.ReadDir(homeOf(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), hidden) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(homeOf(stateDir), e.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("clear the divergences: %w", err)
	}
	return nil
}

func closeDir(dir string, how Closed) error {
	fresh := filepath.Join(dir, hidden+closedFile)
	err := writeJSON(fresh, how)
	if err == nil {
		err = os.Rename(fresh, filepath.Join(dir, closedFile))
	}
	if err == nil {
		err = tree.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("close divergence %s: %w", dir, err)
	}
	return nil
}

// open returns the directory of the epoch's divergence if it is open still, ""
// if there is none.
func open(stateDir string, epoch op.Epoch) (string, error) {
	found := ""
	err := eachOpen(stateDir, func(dir string, h Header) error {
		if h.Epoch == epoch {
			found = dir
		}
		return nil
	})
	return found, err
}

// makeHome makes the directory of a divergence, complete and durable.
func makeHome(stateDir string, h Header) (string, error) {
	home := homeOf(stateDir)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", fmt.Errorf("begin a divergence: %w", err)
	}
	stem := fmt.Sprintf("%s-%d", h.Began.UTC().Format("20060102T150405Z"), h.Epoch.Number)
	h.Format, h.ID = format, stem
	for n := 2; ; n++ {
		if _, err := os.Lstat(filepath.Join(home, h.ID)); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return "", fmt.Errorf("begin a divergence: %w", err)
		}
		h.ID = fmt.Sprintf("%s.%d", stem, n)
	}
	fresh, dir := filepath.Join(home, hidden+h.ID), filepath.Join(home, h.ID)
	if err := makeDir(fresh, h); err != nil {
		return "", fmt.Errorf("begin divergence %s: %w", h.ID, err)
	}
	if err := os.Rename(fresh, dir); err != nil {
		return "", fmt.Errorf("begin divergence %s: %w", h.ID, err)
	}
	if err := errors.Join(tree.SyncDir(home), tree.SyncDir(stateDir)); err != nil {
		return "", fmt.Errorf("begin divergence %s: %w", h.ID, err)
	}
	return dir, nil
}

func makeDir(dir string, h Header) error {
	if err := os.RemoveAll(dir); err != nil { // left by a kill
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{manifestFile, dataFile} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dir, headerFile), h); err != nil {
		return err
	}
	return tree.SyncDir(dir)
}

// readHead reads what there is beside manifest and data. Closed is nil of a
// divergence that is open.
func readHead(dir string) (Header, *Closed, error) {
	var h Header
	if err := readJSON(filepath.Join(dir, headerFile), &h); err != nil {
		return h, nil, fmt.Errorf("read divergence %s: %w", dir, err)
	}
	if h.Format != format {
		return h, nil, fmt.Errorf("read divergence %s: it has format %d, and this program knows %d: use a newer one", dir, h.Format, format)
	}
	closed := new(Closed)
	err := readJSON(filepath.Join(dir, closedFile), closed)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil, nil
	}
	if err != nil {
		return h, nil, fmt.Errorf("read divergence %s: %w", dir, err)
	}
	return h, closed, nil
}

// writeJSON writes a file and syncs it.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Sync(), f.Close())
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}
