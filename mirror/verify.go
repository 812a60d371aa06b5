package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// Verify compares every connected, level mirror with the primary while writes
// go on. Each comparison is an op, so it happens at one exact position on both
// sides: what differs there differs. Nothing is changed.
//
// With versions the report also says who has which version of what differs.
func (l *Log) Verify(ctx context.Context, versions bool) (*VerifyReport, error) {
	if err := l.beginVerify(ctx); err != nil {
		return nil, err
	}
	defer func() { <-l.verifies }()
	if err := l.fence.check(); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	v := &verify{log: l, began: time.Now(), report: &VerifyReport{}, groups: make(map[tree.Inode]string)}
	defer v.end()
	v.begin()
	counting, stop := context.WithCancel(ctx)
	counted := make(chan struct{})
	go func() { defer close(counted); v.count(counting) }()
	defer func() { stop(); <-counted }()
	if err := v.walk(ctx, op.Root); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if err := v.lookAgain(ctx); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	report := v.result()
	if versions {
		var err error
		if report.Items, err = v.versions(ctx); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	return report, nil
}

// verify is one run of it.
type verify struct {
	log    *Log
	began  time.Time
	to     uint32 // the mirrors that are compared
	last   op.LSN
	report *VerifyReport         // Files and Bytes are guarded by log.mu
	gauge  Gauge                 // guarded by log.mu
	groups map[tree.Inode]string // one name of each file that has several
	again  bool                  // all was looked at: see lookAgain
}

// begin chooses the mirrors.
func (v *verify) begin() {
	v.log.cfg.Tree.Forget(op.Root) // who moves things behind our back must not fool us
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	v.log.verify = v
	for _, p := range v.log.peers {
		p.verify = &verifying{suspects: make(suspects)}
		switch {
		case p.session == nil:
			p.verify.lost("not connected: " + p.reason)
		case p.pending != nil:
			p.verify.lost("not level yet: " + string(p.state))
		default:
			v.to |= p.bit
		}
	}
}

func (v *verify) end() {
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	v.log.verify = nil
	for _, p := range v.log.peers {
		p.verify = nil
	}
}

// send orders one comparison.
func (v *verify) send(o *op.Op) error {
	o.Flags = o.Flags&^op.Fresh | op.Compare
	frame, err := v.log.encode(o)
	if err != nil {
		return err
	}
	v.log.mu.Lock()
	v.last = v.log.put(frame, o, v.to)
	v.log.mu.Unlock()
	v.log.wake(v.to)
	return nil
}

// walk compares path and all below it.
func (v *verify) walk(ctx context.Context, path string) error {
	if err := v.room(ctx); err != nil {
		return err
	}
	var s surface
	known := false // by another name, under which its content was compared
	err := v.log.source.Hold(path, func() (err error) {
		if s, err = v.log.surface(path); err != nil || s.put == nil {
			return err
		}
		if err := s.list(v.log, path); err != nil {
			return err
		}
		if err := v.send(s.put); err != nil {
			return err
		}
		if err := s.eachNames(path, op.Compare, v.send); err != nil {
			return err
		}
		known, err = v.links(path, &s)
		return err
	})
	switch {
	case err != nil && moved(err): // it went while we walked; the op that took it away is in the stream
		return nil
	case err != nil:
		return fmt.Errorf("%q: %w", path, err)
	case known:
		return nil
	case s.file:
		return v.content(ctx, path, s.put.Attr.Size)
	}
	return v.children(ctx, path, s.names)
}

// children compares those of a directory, and all below them.
func (v *verify) children(ctx context.Context, dir string, all []tree.Entry) error {
	var alone []string
	isAlone := func(path string, e tree.Entry) bool {
		if simple(e) && e.Mode&unix.S_IFMT != unix.S_IFDIR {
			return false
		}
		alone = append(alone, path)
		return true
	}
	rest := slices.DeleteFunc(all, func(e tree.Entry) bool { return isAlone(op.JoinPath(dir, e.Name), e) })
	err := survey{
		log: v.log, dir: dir, cold: true, alone: isAlone, room: v.room, send: v.send,
		read: func(ctx context.Context, files, bytes int64) error {
			v.counted(files, bytes)
			return v.log.verifyPace.take(ctx, files*op.RegionSize)
		},
	}.run(ctx, rest)
	if err != nil {
		return fmt.Errorf("%q: %w", dir, err)
	}
	for _, path := range alone {
		if err := v.walk(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// counted adds to what was compared.
func (v *verify) counted(files, bytes int64) {
	if v.again {
		return
	}
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	v.report.Files += uint64(files)
	v.report.Bytes += uint64(bytes)
}

// room waits until the mirrors have compared most of what was sent.
func (v *verify) room(ctx context.Context) error { return v.wait(ctx, (*peer).roomy) }

// lookAgain waits for all answers and looks alone at what surveys found to
// differ, to say how. It did differ, whatever became of it since.
func (v *verify) lookAgain(ctx context.Context) error {
	v.again = true
	for {
		if err := v.wait(ctx, func(p *peer) bool { return p.applied >= min(v.last, p.sent) && p.cursor > v.last }); err != nil {
			return err
		}
		var paths []string
		v.log.mu.Lock()
		for _, p := range v.log.peers {
			paths = append(paths, p.verify.surveyed[p.verify.looked:]...)
			p.verify.looked = len(p.verify.surveyed)
		}
		v.log.mu.Unlock()
		if len(paths) == 0 {
			return nil
		}
		slices.Sort(paths)
		for _, path := range slices.Compact(paths) {
			if err := v.walk(ctx, path); err != nil {
				return err
			}
		}
	}
}

// links compares that names of one file are names of one file there, and reports
// whether path is not the first of them.
func (v *verify) links(path string, s *surface) (known bool, err error) {
	if s.dir || s.id.Nlink < 2 {
		return false, nil
	}
	first, ok := v.groups[s.id.Key()]
	if !ok {
		v.groups[s.id.Key()] = path
		return false, nil
	}
	if _, now, err := v.log.cfg.Tree.Describe(first); err != nil || now.Key() != s.id.Key() {
		v.groups[s.id.Key()] = path
		return false, nil
	}
	return true, v.send(&op.Op{Kind: op.PutLink, Path: first, Path2: path})
}

// content compares a file's data, size bytes when it was looked at.
func (v *verify) content(ctx context.Context, path string, size int64) error {
	v.counted(1, 0)
	for off := int64(0); ; {
		if err := v.room(ctx); err != nil {
			return err
		}
		from := off
		if err := v.log.cfg.Tree.Cold(path, off, v.log.stride()); err != nil && !moved(err) {
			return fmt.Errorf("%q: %w", path, err)
		}
		err := v.log.source.Hold(path, func() (err error) {
			off, err = v.log.digest(path, off, region.End, op.Compare, v.send)
			return err
		})
		if err != nil && !moved(err) {
			return fmt.Errorf("%q: %w", path, err)
		}
		n := off - from
		v.counted(0, max(0, min(off, size)-from))
		if n <= v.log.stride() { // not a hole, which costs nothing
			if err := v.log.verifyPace.take(ctx, n); err != nil {
				return err
			}
		}
		if n < v.log.stride() {
			return nil
		}
	}
}

var errNobody = errors.New("no mirror is left to compare")

// patience is how long a verify waits for one that runs: one whose caller has
// gone away is given up soon.
const patience = 5 * time.Second

// beginVerify makes sure that this is the only verify.
func (l *Log) beginVerify(ctx context.Context) error {
	wait := time.NewTimer(patience)
	defer wait.Stop()
	select {
	case l.verifies <- struct{}{}:
		return nil
	case <-wait.C:
		return errVerifying
	case <-ctx.Done():
		return fmt.Errorf("verify: %w", context.Cause(ctx))
	}
}

// errVerifying answers a second verify.
var errVerifying = errors.New("a verify runs already: wait until it is through, status shows how far it is")

// wait returns when ok holds for every mirror that is still compared. ok is
// called with log.mu held.
func (v *verify) wait(ctx context.Context, ok func(*peer) bool) error {
	l := v.log
	for {
		l.mu.Lock()
		room, news := l.room, l.news
		all, left := true, 0
		for _, p := range l.peers {
			if v.to&p.bit != 0 && p.verify.gone == "" {
				left++
				all = all && ok(p)
			}
		}
		l.mu.Unlock()
		switch {
		case left == 0 && v.to != 0:
			return errNobody
		case all:
			return nil
		}
		select {
		case <-room:
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// versions finds out who has which version of all that differs.
func (v *verify) versions(ctx context.Context) ([]Item, error) {
	all := make(suspects)
	var level []*peer
	v.log.mu.Lock()
	for _, p := range v.log.peers {
		for path, s := range p.verify.suspects {
			one := all.add(path, nil)
			maps.Copy(one.regions, s.regions)
			maps.Copy(one.with, s.with)
		}
		if p.verify.gone == "" {
			level = append(level, p)
		}
	}
	v.log.mu.Unlock()
	views := newViews(v.log, level)
	defer views.close()
	return all.items(ctx, views)
}

// result gathers what the mirrors said.
func (v *verify) result() *VerifyReport {
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	v.report.LSN, v.report.Replicas = v.last, 1+len(v.log.peers)
	for _, p := range v.log.peers {
		p.verify.explain()
		r := PeerVerify{Name: p.name, Node: p.node, Checked: p.verify.gone == "", Reason: p.verify.gone, Differences: p.verify.differences}
		if p.verify.more > 0 {
			r.Differences = append(r.Differences, fmt.Sprintf("and %d more", p.verify.more))
		}
		v.report.Peers = append(v.report.Peers, r)
	}
	return v.report
}
