package fs

// Known returns how many inodes, handles and late times are held.
func (f *FS) Known() (inodes, open, late int) {
	f.handles.mu.RLock()
	defer f.handles.mu.RUnlock()
	f.times.mu.Lock()
	defer f.times.mu.Unlock()
	return f.table.size(), len(f.handles.open), len(f.times.late)
}

// LimitOpen sets how many files may be open.
func (f *FS) LimitOpen(limit int) {
	f.handles.mu.Lock()
	defer f.handles.mu.Unlock()
	f.handles.limit = limit
}

// Status exposes the table of errnos.
var Status = status

// Forgets returns how many messages about forgotten files have come, and how
// many of them are handled.
func (f *FS) Forgets() (taken, ended uint64) {
	f.server.freeing.mu.Lock()
	defer f.server.freeing.mu.Unlock()
	return f.server.freeing.taken, f.server.freeing.ended
}

// Forgetting makes it look as if one more of them were being handled, until end
// is called.
func (f *FS) Forgetting() (end func()) {
	f.server.freeing.begin()
	return f.server.freeing.end
}
