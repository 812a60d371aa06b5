package mirror

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/wire"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// seen is what one replica has at a path.
type seen struct {
	peer    *peer // nil: the primary
	name    string
	put     *op.Op // nil: nothing
	id      tree.Inode
	digests [][]byte // of the regions that were asked for
}

// views asks the replicas what they have. One goroutine uses it.
type views struct {
	log      *Log
	asked    []*peer // those that are asked; one that does not answer is not asked again
	sessions map[*peer]*wire.Session
	mu       sync.Mutex // guards sessions, and lost
	lost     map[*peer]error
}

// newViews makes views of the given mirrors.
func newViews(l *Log, peers []*peer) *views {
	return &views{log: l, asked: peers, sessions: make(map[*peer]*wire.Session), lost: make(map[*peer]error)}
}

func (v *views) close() {
	for _, s := range v.sessions {
		s.Close()
	}
}

// look returns what all replicas have at path, the primary first. The caller
// keeps it from changing; the mirrors are waited for until they have applied
// what was ordered before.
func (v *views) look(ctx context.Context, path string, regions []int64) ([]seen, error) {
	own, err := v.log.cfg.Tree.View(path, regions)
	if err != nil {
		return nil, err
	}
	all := make([]seen, 1+len(v.asked))
	all[0] = seen{name: v.log.cfg.Name, put: own.Put, id: own.ID, digests: own.Digests}
	var answers sync.WaitGroup
	for i, p := range v.asked {
		answers.Go(func() {
			s, err := v.one(ctx, p, &wire.ViewRequest{Path: []byte(path), Regions: regions})
			if err != nil {
				v.mu.Lock()
				v.lost[p] = err
				v.mu.Unlock()
				return
			}
			all[1+i] = s.seen
		})
	}
	answers.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(v.lost) > 0 {
		v.asked = slices.DeleteFunc(slices.Clone(v.asked), func(p *peer) bool { return v.lost[p] != nil })
	}
	return slices.DeleteFunc(all, func(s seen) bool { return s.name == "" }), nil
}

// told is seen with what else was asked for.
type told struct {
	seen
	ops   []*op.Op
	names []string
}

// one asks one mirror.
func (v *views) one(ctx context.Context, p *peer, q *wire.ViewRequest) (*told, error) {
	l := v.log
	ctx, cancel := context.WithTimeout(ctx, max(l.cfg.AckTimeout, time.Second))
	defer cancel()
	if err := l.applied(ctx, p); err != nil {
		return nil, err
	}
	v.mu.Lock()
	s := v.sessions[p]
	v.mu.Unlock()
	if s == nil {
		var err error
		if s, err = l.cfg.DialBulk(ctx, p.cfg.Addr); err != nil {
			return nil, fmt.Errorf("ask %s what it has: %w", p.cfg.Addr, err)
		}
		v.mu.Lock()
		v.sessions[p] = s
		v.mu.Unlock()
	}
	q.Volume = l.cfg.Volume
	var a wire.ViewAnswer
	if err := wire.Call(ctx, s, wire.MethodView, q, &a); err != nil {
		return nil, err
	}
	l.mu.Lock()
	node, name := p.node, p.name
	l.mu.Unlock()
	if a.Node != node {
		return nil, fmt.Errorf("%s is another node now", p.cfg.Addr)
	}
	if len(a.Digests) != len(q.Regions) {
		return nil, fmt.Errorf("%w: %d digests of %d regions", errProto, len(a.Digests), len(q.Regions))
	}
	t := &told{seen: seen{peer: p, name: name, id: tree.Inode{Dev: a.Dev, Ino: a.Ino, Nlink: a.Links}, digests: a.Digests}}
	puts, err := decodeOps(a.Put)
	if err != nil {
		return nil, err
	}
	for _, o := range puts {
		if o.Kind != op.Put || o.Path != string(q.Path) {
			return nil, fmt.Errorf("%w: %v where what is at %q was due", errProto, o, q.Path)
		}
		t.put = o
	}
	if t.ops, err = decodeOps(a.Data); err != nil {
		return nil, err
	}
	for _, o := range t.ops {
		if !o.Kind.Data() || o.Kind.TwoPaths() || o.Path != string(q.Path) {
			return nil, fmt.Errorf("%w: %v where data of %q was due", errProto, o, q.Path)
		}
	}
	for _, n := range a.Names {
		t.names = append(t.names, string(n))
	}
	return t, nil
}

// decodeOps reads frames that stand in no stream.
func decodeOps(frames []byte) ([]*op.Op, error) {
	var ops []*op.Op
	r := wire.NewReader(bytes.NewReader(frames))
	for rest := len(frames); rest > 0; {
		h, payload, err := r.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: an answer's ops: %w", errProto, closedAsEOF(err))
		}
		o := &op.Op{}
		if err := wire.DecodeOp(h, payload, o); err != nil {
			return nil, err
		}
		o.Data = bytes.Clone(o.Data)
		for i := range o.Xattrs {
			o.Xattrs[i].Value = bytes.Clone(o.Xattrs[i].Value)
		}
		ops = append(ops, o)
		rest -= wire.HeaderSize + len(payload)
	}
	return ops, nil
}

// applied returns once p has applied all that was ordered so far.
func (l *Log) applied(ctx context.Context, p *peer) error {
	l.mu.Lock()
	last := l.ring.next - 1
	l.mu.Unlock()
	for {
		l.mu.Lock()
		room, news := l.room, l.news
		gone := p.session == nil
		ok := p.applied >= min(last, p.sent) && p.cursor > last
		l.mu.Unlock()
		switch {
		case gone:
			return errors.New("it is not connected")
		case ok:
			return nil
		}
		select {
		case <-room:
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("wait until it has applied what was ordered: %w", ctx.Err())
		}
	}
}

// version names what a replica has of an aspect: equal where it has the same.
func (s *seen) version(a Aspect) string {
	if s.put == nil {
		return "nothing"
	}
	if a == AspectContent {
		return sum(bytes.Join(s.digests, []byte{0}))
	}
	o := *s.put
	o.Path = op.Root
	if a == AspectObject {
		o.Arg = 0
	} else if o.Arg > 1 {
		o.Arg = 2 // how many names there are besides is a matter of these
	}
	frame, err := wire.AppendOp(nil, 0, &o)
	if err != nil { // too large for a frame: then it has come by none
		return "unknown"
	}
	return sum(frame[wire.HeaderSize:])
}

func sum(b []byte) string {
	d := xxh3.Hash128(b).Bytes()
	return hex.EncodeToString(d[:])
}

// text describes it to a person.
func (s *seen) text(a Aspect) string {
	switch {
	case s.put == nil:
		return "nothing"
	case a == AspectContent:
		return "content " + s.version(a)
	}
	at := s.put.Attr
	var b strings.Builder
	fmt.Fprintf(&b, "a %s, mode %04o, owner %d:%d, changed %s", tree.TypeName(at.Mode), at.Mode&0o7777, at.UID, at.GID,
		time.Unix(at.Mtime.Sec, int64(at.Mtime.Nsec)).UTC().Format(time.RFC3339Nano))
	if at.Mode&unix.S_IFMT == unix.S_IFREG {
		fmt.Fprintf(&b, ", %d bytes", at.Size)
	}
	if s.put.Arg > 1 {
		fmt.Fprintf(&b, ", %d names", s.put.Arg)
	}
	if at.Mode&unix.S_IFMT == unix.S_IFLNK {
		fmt.Fprintf(&b, " to %q", s.put.Data)
	}
	if at.Flags != 0 {
		fmt.Fprintf(&b, ", flags %#x", at.Flags)
	}
	for _, x := range s.put.Xattrs {
		fmt.Fprintf(&b, ", %s=%q", x.Name, x.Value)
	}
	return b.String()
}
