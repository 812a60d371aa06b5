package fs

import (
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A request costs little here and much on its way here: waking a thread takes
// longer than a small write does. So one worker reads and answers requests for
// as long as that works, and others only when it would stand still. In a pool of
// readers the kernel wakes the one that has slept longest.
//
//  1. The worker that has the turn reads the device, answers, and reads again,
//     on one thread, until there is nothing to read. What it has ordered
//     meanwhile goes to the mirrors together.
//  2. A handler that is about to block says so (server.blocks). The turn passes
//     to another worker, and the blocked one goes to rest after its answer.
//  3. A handler that blocks without knowing, in a lock or on a cold disk, is
//     relieved of the turn after patience: watch looks.
//  4. Nobody waits for a mirror here: an answer that mirrors have yet to allow
//     is held back, and the goroutine that hears of their ack sends it; see
//     reply.go.

const (
	// patience is how long others wait behind a handler that blocks unannounced.
	patience = time.Millisecond
	// batch is after how many requests whoever sends them to the mirrors gets the
	// processor: a reader that always finds a request would keep it.
	batch = 64
	// resting is how many workers without work are kept.
	resting = 16
)

// server answers the requests of one mounted device.
type server struct {
	dev   *device
	proto *fuse.ProtocolServer
	held  *held
	log   *slog.Logger

	freeing *freeing // which requests are answered that make room on the disk

	turn   chan struct{}          // unbuffered: the turn for a worker at rest
	ended  chan struct{}          // closed by end: there are no more requests
	once   sync.Once              // for end
	rest   atomic.Int32           // workers at rest
	reader atomic.Pointer[worker] // the last one that took a request

	taken  atomic.Uint64 // requests so far
	asleep atomic.Bool   // watch waits for news
	news   chan struct{} // room for one: there is a request for watch to look at

	mu      sync.Mutex // guards workers
	workers []*worker
	running sync.WaitGroup
	notices sync.WaitGroup // messages under way to the kernel; see notify.go
}

// worker is one goroutine that answers requests, and its memory.
type worker struct {
	in, out []byte
	request atomic.Uint64 // the one that is being answered, or 0
	turn    atomic.Bool   // has the turn while it answers; whoever swaps it to false passes it on
}

// bufferSize holds the largest request or reply with its headers.
const bufferSize = maxWrite + 4096

// buffers are those of workers that ended.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

func newServer(dev *device, proto *fuse.ProtocolServer, log *slog.Logger) *server {
	s := &server{
		dev: dev, proto: proto, log: log,
		freeing: newFreeing(), turn: make(chan struct{}), ended: make(chan struct{}), news: make(chan struct{}, 1),
	}
	s.held = newHeld(s.send, s.distrust)
	return s
}

// serve answers requests until the kernel has none any more, and returns when
// every answer is given.
func (s *server) serve() {
	var watch sync.WaitGroup
	watch.Go(s.watch)
	s.start()
	<-s.ended
	s.running.Wait()
	watch.Wait()
	s.notices.Wait()
}

// start starts a worker that has the turn.
func (s *server) start() {
	in, out := buffers.Get().(*[]byte), buffers.Get().(*[]byte)
	w := &worker{in: *in, out: *out}
	s.mu.Lock()
	s.workers = append(s.workers, w)
	s.mu.Unlock()
	s.running.Go(func() {
		defer func() {
			s.mu.Lock()
			s.workers = slices.DeleteFunc(s.workers, func(other *worker) bool { return other == w })
			s.mu.Unlock()
			buffers.Put(in)
			buffers.Put(out)
		}()
		s.work(w)
	})
}

// work answers requests for as long as w gets the turn.
func (s *server) work(w *worker) {
	for served := 1; ; served++ {
		if served%batch == 0 {
			runtime.Gosched()
		}
		n, err := s.dev.read(w.in)
		switch {
		case err == nil:
		case errors.Is(err, unix.ENOENT):
			continue // the request was taken back while it was read
		default:
			s.end(err)
			return
		}
		frees := forgets(w.in)
		if frees { // before anybody can read the next request
			s.freeing.begin()
		}
		w.request.Store(uniqueOf(w.in))
		w.turn.Store(true)
		s.reader.Store(w)
		s.taken.Add(1)
		s.wake()
		s.answer(w, w.in[:n])
		if frees {
			s.freeing.end()
		}
		w.request.Store(0)
		// Who still has the turn reads on.
		if !w.turn.CompareAndSwap(true, false) && !s.await() {
			return
		}
	}
}

// await waits for the turn, and reports false if there is nothing to wait for.
func (s *server) await() bool {
	defer s.rest.Add(-1)
	if s.rest.Add(1) > resting {
		return false
	}
	select {
	case <-s.turn:
		return true
	case <-s.ended:
		return false
	}
}

// blocks says that the handler of a request is about to block. If its worker is
// not the one that read last, it has passed the turn on already.
func (s *server) blocks(request uint64) {
	if w := s.reader.Load(); w.request.Load() == request {
		s.pass(w)
	}
}

// pass gives the turn to another worker, if w has it.
func (s *server) pass(w *worker) {
	if !w.turn.CompareAndSwap(true, false) {
		return
	}
	select {
	case s.turn <- struct{}{}:
	default:
		s.start()
	}
}

// busy returns the workers that answer a request.
func (s *server) busy() []*worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.workers), func(w *worker) bool { return w.request.Load() == 0 })
}

// watch relieves a worker that keeps the turn without getting on. It sleeps
// while there are no requests.
func (s *server) watch() {
	const quiet = 50 // ticks without a request before it sleeps
	tick := time.NewTimer(patience)
	defer tick.Stop()
	last, idle := uint64(0), quiet
	for {
		if idle >= quiet {
			// Whoever takes a request counts it first and looks at asleep then: either
			// it is seen here, or it wakes us.
			s.asleep.Store(true)
			if s.taken.Load() == last {
				select {
				case <-s.news:
				case <-s.ended:
					return
				}
			}
			s.asleep.Store(false)
			idle = 0
		}
		tick.Reset(patience)
		select {
		case <-tick.C:
		case <-s.ended:
			return
		}
		idle++
		if now := s.taken.Load(); now != last {
			last, idle = now, 0
		} else if w := s.reader.Load(); w != nil {
			s.pass(w) // which does nothing if it waits for a request
		}
	}
}

// wake has watch look, if it sleeps. It never waits: if the last word is still in
// news, since watch saw the request without it, that one serves.
func (s *server) wake() {
	if s.asleep.Load() && s.asleep.CompareAndSwap(true, false) {
		select {
		case s.news <- struct{}{}:
		default:
		}
	}
}

// answer lets the protocol handle one request and sends the reply, unless it is
// held back.
func (s *server) answer(w *worker, request []byte) {
	if opcodeOf(request) == opInterrupt && s.held.has(interruptedBy(request)) {
		return // it has happened, and must not look as if it had not
	}
	n, status := s.proto.HandleRequest([][]byte{request}, [][]byte{w.out})
	switch {
	case !status.Ok():
		s.log.Error("a request of the kernel was not understood", "opcode", opcodeOf(request), "status", status)
		n = errorReply(w.out, uniqueOf(request), status)
	case n == 0:
		return // nobody waits for this one
	}
	if !s.held.keep(uniqueOf(request), w.out[:n]) {
		s.send(w.out[:n])
	}
}

// send gives the kernel a reply.
func (s *server) send(reply []byte) {
	err := s.dev.write(reply)
	// ENOENT: whoever asked was killed.
	if err != nil && !errors.Is(err, unix.ENOENT) && !gone(err) {
		s.log.Error("the kernel does not take a reply", "error", err)
	}
}

// end is called when the device says that there are no more requests. Handlers
// that still wait for something are interrupted: nobody waits for them.
func (s *server) end(err error) {
	s.once.Do(func() {
		if !gone(err) {
			s.log.Error("the device of the mount fails: unmounted", "error", err)
		}
		close(s.ended)
		var out [64]byte
		for _, w := range s.busy() {
			s.proto.HandleRequest([][]byte{interrupt(w.request.Load())}, [][]byte{out[:]})
		}
	})
}
