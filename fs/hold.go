package fs

import "github.com/standbyfs/standbyfs/fs/op"

// Hold runs fn while no change of the object at path is ordered: of its data,
// its attributes, its names, or, of a directory, its entries. Times that were
// put off are ordered before. fn may order ops of its own, but must not call
// Hold or HoldAll. Where there is nothing at path, fn runs while nothing can
// come to be there.
func (f *FS) Hold(path string, fn func() error) error {
	return f.hold([]string{path}, fn)
}

// HoldNames is Hold for these entries of a directory, all of them at once.
func (f *FS) HoldNames(dir string, names []string, fn func() error) error {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = op.JoinPath(dir, name)
	}
	return f.hold(paths, fn)
}

func (f *FS) hold(paths []string, fn func() error) error {
	f.names.RLock()
	defer f.names.RUnlock()
	var held, all []*inode
	for _, path := range paths {
		n, parent, leave, err := f.intern(path)
		if err != nil {
			return err
		}
		defer leave()
		// The parent too: an object that is being made is known to nobody before
		// it has its place in the order.
		all = append(all, n, parent)
		if n != nil {
			held = append(held, n)
		}
	}
	defer lockAll(all)()
	for _, n := range held {
		// By the name that ops carry, which may be another than path.
		own, _ := f.path(n)
		if _, err := f.commitTime(f.ctx.Done(), n, own); err != nil {
			return err
		}
	}
	return fn()
}

// HoldAll runs fn while no op at all is ordered.
func (f *FS) HoldAll(fn func() error) error {
	f.names.Lock()
	defer f.names.Unlock()
	return fn()
}
