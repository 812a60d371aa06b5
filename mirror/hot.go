package mirror

import (
	"context"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/fs/tree"
	"github.com/standbyfs/standbyfs/mirror/region"
	"golang.org/x/sys/unix"
)

// heat records what o is about to change, before the change (RULES.md 1,
// HotPrimary). A name that mirrors do not know changes the time of a directory
// that they may know; nothing else of it is theirs.
func (l *Log) heat(o *op.Op) (region.Ticket, error) {
	if l.cfg.Regions == nil || !o.Kind.Namespace() && !l.travels(o.Path) && !l.travels(o.Path2) {
		return region.Ticket{}, nil
	}
	return l.cfg.Regions.Begin(o, l.look)
}

// Look is how a replica tells what stands at a path, for what an op is about to
// change. travels reports whether mirrors know a path; nil: all of them.
func Look(t *tree.Tree, travels func(path string) bool) region.Look {
	return func(path string) (region.Stat, error) {
		local := travels != nil && !travels(path)
		st, err := t.Stat(path)
		if err != nil {
			return region.Stat{Local: local}, err
		}
		found := region.Stat{Mode: st.Mode, Links: uint32(st.Nlink), Size: st.Size, Ino: st.Ino, Local: local}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			found.Names = func(most int) []string { return t.SomeNames(path, most) }
		}
		return found, nil
	}
}

// checkpoint is by what the primary forgets what need not be compared any more
// after a crash (RULES.md 2).
func (l *Log) checkpoint(ctx context.Context) region.Checkpoint {
	return region.Checkpoint{
		Settle: func() error { return l.source.FlushTimes(ctx) },
		Sync:   l.cfg.Tree.Sync,
		Failed: l.cfg.Failed,
		Committed: func(at op.LSN) bool {
			commit, _ := l.sync.committed()
			return commit >= at
		},
		Outside: func() []op.NodeID {
			set := l.sync.set()
			return slices.DeleteFunc(l.cfg.Regions.Nodes(), func(n op.NodeID) bool { return slices.Contains(set, n) })
		},
		Allowed: func() bool { return l.fence.check() == nil },
	}
}

// kept tells why regions were not forgotten.
func (l *Log) kept(err error) {
	l.cfg.Logger.Error("regions are kept that need no comparison any more", "error", err)
}
