package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/standbyfs/standbyfs/daemon/admin"
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs"
	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror"
	"github.com/standbyfs/standbyfs/wire"
)

// reign is the role of a primary: one line of positions, from the mount to the
// last barrier.
type reign struct {
	node       *node
	line       op.Line
	mountpoint string
	peers      int         // all mirrors
	synced     int         // those that calls may wait for
	log        *mirror.Log // nil without peers
	alone      *alone      // nil with peers
	mount      *fs.Mount
	disk       *failing

	// watching ends before the last barrier, and with it what compares and mends
	// replicas: work is held shared by that, and by the end of the reign for good.
	watching context.Context
	work     sync.RWMutex

	// stepping serialises the records of a fence, which may come from a peer's
	// answer and from a request at the same time.
	stepping sync.Mutex
}

// reign runs the role from its begin to its end: ctx ends, or somebody unmounts
// the volume. A fence does not end it: the mount stays, read-only, until the
// operator stops the node, so that programs see an error and not an empty
// directory.
func (n *node) reign(ctx context.Context, t term) (err error) {
	r := &reign{node: n, line: t.line, mountpoint: t.mountpoint, peers: len(t.peers), disk: newFailing()}
	for _, p := range t.peers {
		if !p.Async {
			r.synced++
		}
	}
	if err := n.store.Believe(n.tree); err != nil {
		t.begun(err)
		return err
	}
	committer, err := r.committer(t)
	if err != nil {
		t.begun(err)
		return err
	}
	files, err := fs.New(n.tree, committer, fs.Options{
		Name: n.cfg.Replica, Suid: n.cfg.Suid, Dev: n.cfg.Dev, Logger: n.log, Alone: len(t.peers) == 0,
		Failed: func(_ string, lost bool, err error) { r.disk.failed(lost, err) },
	})
	if err != nil {
		t.begun(err)
		return fmt.Errorf("make the file system: %w", err)
	}
	if r.mount, err = files.Mount(t.mountpoint); err != nil {
		t.begun(err)
		return fmt.Errorf("mount %s on %s: %w", n.cfg.Replica, t.mountpoint, err)
	}
	// Sessions outlive ctx: the end of the reign still needs the mirrors.
	sessions, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- r.run(sessions, files) }() // waited for by the defer
	// Ends before the last barrier, which it would hold up.
	var stopWatching context.CancelFunc
	r.watching, stopWatching = context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.watchDisk(r.watching, files) })
	if r.log != nil && n.cfg.Mirror.VerifyEvery > 0 {
		watch.Go(func() { r.verifySchedule().run(r.watching) })
	}
	defer func() {
		stopWatching()
		watch.Wait()
		r.work.Lock()
		err = errors.Join(err, r.end(ctx, files))
		hangUp()
		err = errors.Join(err, <-ended)
	}()
	n.play(r)
	t.begun(nil)
	n.ready(r.summary())
	for {
		select {
		case p := <-n.promotions:
			p.answer <- outcome{err: admin.Errorf(admin.CodeFailed, "%s is the primary already, mounted on %s", n.cfg.Replica, t.mountpoint)}
		case <-r.mount.Done():
			n.event("unmounted", "the volume was unmounted from outside")
			return nil
		case <-ctx.Done():
			n.stopping()
			return nil
		}
	}
}

// committer returns what orders the ops of this reign.
func (r *reign) committer(t term) (fs.Committer, error) {
	n := r.node
	if len(t.peers) == 0 {
		travels, err := mirror.Travels(n.cfg.Mirror.Rules)
		if err != nil {
			return nil, err
		}
		r.alone = newAlone(n.store.Regions(), n.tree, travels)
		return r.alone, nil
	}
	s, cfg := n.store.Get(), n.cfg.Mirror.config(t.peers)
	cfg.Line, cfg.Volume, cfg.Self, cfg.Name, cfg.Set = t.line, s.Volume, s.Node, s.Name, t.set
	cfg.Follows = t.follows
	cfg.Regions, cfg.Meetings = n.store.Regions(), n.store
	cfg.Tree, cfg.Register, cfg.Software, cfg.Logger, cfg.Event = n.tree, r, n.software(), n.log, n.event
	cfg.Dial = func(ctx context.Context, addr string) (*wire.Session, error) {
		return n.dial(ctx, addr, wire.LaneOps)
	}
	cfg.DialBulk = func(ctx context.Context, addr string) (*wire.Session, error) {
		return n.dial(ctx, addr, wire.LaneBulk)
	}
	cfg.Failed = func(err error) { r.disk.failed(true, err) }
	cfg.Fenced = func(epoch op.Epoch, by string) {
		if err := r.stepDown(epoch, by); err != nil {
			n.log.Error("deposed, and it cannot be recorded: the next start finds out again", "epoch", epoch, "by", by, "error", err)
		}
	}
	log, err := mirror.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("set up mirroring: %w", err)
	}
	r.log = log
	return log, nil
}

// run keeps the mirrors' sessions until ctx ends.
func (r *reign) run(ctx context.Context, files mirror.Source) error {
	if r.log != nil {
		return r.log.Run(ctx, files)
	}
	if r.alone.regions == nil {
		return nil
	}
	settle := func() error { return files.FlushTimes(ctx) }
	failed := func(err error) { r.disk.failed(true, err) }
	r.alone.regions.Checkpoints(ctx, r.node.cfg.Mirror.CheckpointEvery, r.alone.checkpoint(settle, failed), r.node.kept)
	return nil
}

// end takes the mount away and brings the mirrors level with a last barrier.
// Both are bounded; what could not be done is said.
func (r *reign) end(ctx context.Context, files *fs.FS) error {
	n, ctx := r.node, context.WithoutCancel(ctx)
	bounded, cancel := context.WithTimeout(ctx, n.cfg.StopTimeout)
	lazy, err := r.unmount(bounded, files)
	cancel()
	bounded, cancel = context.WithTimeout(ctx, n.cfg.StopTimeout)
	defer cancel()
	if r.log != nil {
		if err := n.store.Regions().KeepMoves(); err != nil {
			n.log.Warn("what was renamed last may be sent anew to mirrors that were away", "error", err)
		}
	}
	if drained := r.drain(bounded); drained != nil {
		n.log.Warn("stopped without a last barrier", "error", drained)
		n.event("stopped", fmt.Sprintf("stopped without a last barrier: %v", drained))
	} else {
		n.event("stopped", "stopped after a last barrier")
		if err == nil && !lazy {
			r.record()
		}
	}
	return err
}

// record takes down where the line ends. The mount is gone and the line drained,
// so nothing comes behind.
func (r *reign) record() {
	if r.log == nil {
		return
	}
	at := r.log.Status().LSN
	if err := r.node.store.Update(func(s *state.State) error {
		if s.Role == Primary && s.Epoch == r.line.Epoch {
			s.Stopped = &state.Stopped{Line: r.line, LSN: at}
		}
		return nil
	}); err != nil {
		r.node.log.Warn("the end of the line is not recorded: the next start compares what was changed last", "error", err)
	}
}

// unmount takes the mount away, or, where it is busy, from those who use it.
func (r *reign) unmount(ctx context.Context, files *fs.FS) (lazy bool, err error) {
	n := r.node
	if !r.mounted() { // somebody else did it, and the times travelled with it
		return false, r.mount.Close()
	}
	// A busy mount is taken away from those who use it: their files' times first.
	if err := files.FlushTimes(ctx); err != nil && !errors.Is(err, op.ErrFenced) {
		n.log.Warn("times of some files did not travel before the unmount", "error", err)
	}
	if lazy, err = r.mount.Unmount(ctx); err != nil {
		n.event("unmount", fmt.Sprintf("the volume could not be unmounted: %v", err))
		return lazy, err
	}
	if lazy {
		text := fmt.Sprintf("the mount was still busy after %s and was detached: programs lose the files that they have open there", n.cfg.StopTimeout)
		n.log.Warn(text)
		n.event("detached", text)
	}
	return lazy, r.mount.Close()
}

// drain is the last barrier: all that was ordered is durable here and on every
// mirror in sync.
func (r *reign) drain(ctx context.Context) error {
	if err := r.node.tree.Sync(); err != nil {
		r.node.distrust()
		return fmt.Errorf("sync the replica: %w", err)
	}
	if r.log == nil {
		return nil
	}
	if err := r.log.Drain(ctx); err != nil {
		return fmt.Errorf("drain to the mirrors: %w", err)
	}
	return nil
}

func (r *reign) mounted() bool {
	select {
	case <-r.mount.Done():
		return false
	default:
		return true
	}
}

// summary is the line that the user sees when the node is ready.
func (r *reign) summary() string {
	s := r.node.store.Get()
	mirrors := "no mirrors"
	if r.peers > 0 {
		mirrors = plural(r.peers, "mirror")
	}
	return fmt.Sprintf("primary: %s is mounted on %s (volume %s, epoch %d, %s)", r.node.cfg.Replica, r.mountpoint, s.Volume, s.Epoch.Number, mirrors)
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Decide implements mirror.Register on the state file: the set is durable when
// it returns (RULES.md 5, ExpelFirst). A deposed primary decides nothing.
func (r *reign) Decide(_ context.Context, set []op.NodeID, joined op.NodeID) error {
	decide := func(s *state.State) error {
		if s.Role != Primary || s.Epoch != r.line.Epoch {
			return fmt.Errorf("the in-sync set belongs to epoch %s: %w", s.Epoch, op.ErrFenced)
		}
		s.Set = set
		return nil
	}
	if joined == 0 {
		return r.node.store.Update(decide)
	}
	return r.node.store.Level([]op.NodeID{joined}, decide)
}

func (r *reign) waitInSync(ctx context.Context, n int) error {
	if n == 0 {
		return nil
	}
	if n > r.synced {
		return admin.Errorf(admin.CodeFailed, "%s has %s: %d can never be in sync", r.node.cfg.Replica, plural(r.synced, "synchronous mirror"), n)
	}
	for {
		if err := r.log.WaitInSync(ctx, n); err != nil {
			return err
		}
		// The set has a mirror before that knows it itself. Behind a barrier it
		// does, and may be promoted. While calls are held back there is none.
		if r.log.Status().Shortage {
			return nil
		}
		if err := r.log.Drain(ctx); err != nil {
			return fmt.Errorf("wait until the mirrors know that they are in sync: %w", err)
		}
		if len(r.log.Status().Set) >= n {
			return nil
		}
	}
}

// resync pauses resyncs or has them go on, durably: a restart changes nothing
// about the reason for which they were paused.
func (r *reign) resync(req admin.ResyncRequest) (admin.ResyncResult, error) {
	if r.log == nil {
		return admin.ResyncResult{}, admin.Errorf(admin.CodeFailed, "%s has no mirrors", r.node.cfg.Replica)
	}
	peers, err := r.log.Pause(req.Mirror, req.Pause)
	if err != nil {
		return admin.ResyncResult{}, err
	}
	var result admin.ResyncResult
	err = r.node.store.Update(func(s *state.State) error {
		for _, p := range peers {
			s.Paused = slices.DeleteFunc(s.Paused, func(addr string) bool { return addr == p.Addr })
			if req.Pause {
				s.Paused = append(s.Paused, p.Addr)
			}
			result.Mirrors = append(result.Mirrors, p.Name)
		}
		return nil
	})
	if err != nil {
		return result, fmt.Errorf("it is done, but cannot be recorded, and ends with a restart: %w", err)
	}
	return result, nil
}

func (r *reign) fill(to *admin.Status) {
	to.Deposed = to.Role == admin.RoleMirror // stepDown has recorded it
	to.Line, to.Mountpoint, to.Mounted = &r.line, r.mountpoint, r.mounted()
	if text := r.disk.shown(); text != "" {
		to.Trouble = append(to.Trouble, "the disk has failed: "+text)
	}
	if r.log != nil {
		s := r.log.Status()
		to.Mirroring = &s
	}
}
