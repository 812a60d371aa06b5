package fs

// Hold runs fn while no change of the object at path is ordered: of its data,
// its attributes, its names, or, of a directory, its entries. Times that were
// put off are ordered before. fn may order ops of its own, but must not call
// Hold or HoldAll. Where there is nothing at path, fn runs while nothing can
// come to be there.
func (f *FS) Hold(path string, fn func() error) error {
	f.names.RLock()
	defer f.names.RUnlock()
	n, parent, leave, err := f.intern(path)
	if err != nil {
		return err
	}
	defer leave()
	// The parent too: an object that is being made is known to nobody before it
	// has its place in the order.
	unlock := lockPair(parent, n)
	defer unlock()
	if n != nil {
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
