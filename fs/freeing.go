package fs

import "sync"

// freeing knows which messages are being handled by which the kernel forgets
// files. The room of a file without names is free only then; on a local disk it
// is when the call returns that removes the last name. The kernel sends the
// message before that, so it is counted before anybody can take the request of
// the call that comes next.
type freeing struct {
	mu           sync.Mutex // guards all below
	taken, ended uint64     // messages so far
	more         sync.Cond  // ended has grown
}

func newFreeing() *freeing {
	f := &freeing{}
	f.more.L = &f.mu
	return f
}

func (f *freeing) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken++
}

func (f *freeing) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended++
	f.more.Broadcast()
}

// wait waits until as many are handled as have been taken, and reports whether
// some were not. The caller may hold any of FS's locks: forgetting takes none.
func (f *freeing) wait() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	want := f.taken
	busy := f.ended < want
	for f.ended < want {
		f.more.Wait()
	}
	return busy
}
