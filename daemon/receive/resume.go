package receive

import (
	"github.com/standbyfs/standbyfs/daemon/state"
	"github.com/standbyfs/standbyfs/fs/op"
)

// progress is how far a mirror has come in a line. It is in memory only: a
// process that was restarted resumes nothing.
type progress struct {
	line    op.Line
	applied op.LSN
	offset  uint64 // bytes of the line's op frames up to applied
	commit  op.LSN // as last heard
	// strict: an op that cannot be applied ends the session. Before, in a
	// resync, it is reported and the primary repairs the path.
	strict bool
	synced bool // the replica was synced since it became strict: a join may come
	// suspect and repair are the last LSN of each: an op that did not fit, and one
	// that repairs. Before a repair that follows it, a suspect may not be right yet.
	suspect, repair op.LSN
}

// resume returns where this mirror, which has come to level, can go on in the
// primary's line; nil: nowhere. The line must be the very same: LSNs of two lines
// are never compared (RULES.md 11, NewLine).
//
// But for one case, which the model leaves out. A primary that was stopped
// cleanly had drained its line: its last op is known, nothing was changed behind
// it, and its record of that is gone before anything is. A mirror that was in
// sync and stands at just that op is equal, so it stands at the beginning of the
// next line.
func (s *session) resume(level *progress, st *state.State) *progress {
	switch follows := s.hello.Follows; {
	case level == nil:
		return nil
	case level.line == s.hello.Line:
		return level
	case follows != nil && *follows == op.Position{Line: level.line, LSN: level.applied} &&
		(st.InSync || st.Stopped != nil && st.Stopped.Member):
		return &progress{line: s.hello.Line, strict: true}
	}
	return nil
}

// stopped is where a mirror that stops cleanly may go on, once its replica is on
// stable storage. The hot set need not be looked at then: it is empty but for
// what a resync had under way, which the primary knows.
func (r *Receiver) stopped(l *leaveError) *state.Stopped {
	if !l.clean {
		return nil
	}
	at := l.at
	if at == nil {
		r.mu.Lock()
		at = r.level
		r.mu.Unlock()
	}
	if at == nil {
		return nil
	}
	if err := r.cfg.Tree.Sync(); err != nil {
		r.cfg.Logger.Error("stopped without knowing that the replica is on stable storage", "error", err)
		return nil
	}
	return &state.Stopped{Line: at.line, LSN: at.applied, Offset: at.offset, Commit: at.commit, Strict: at.strict}
}

// resumed is the progress of a mirror that was stopped at s.
func resumed(s *state.Stopped) *progress {
	if s == nil {
		return nil
	}
	// What was strict has been synced since: a join that was on its way may come.
	return &progress{line: s.Line, applied: s.LSN, offset: s.Offset, commit: s.Commit, strict: s.Strict, synced: s.Strict}
}

// level returns what the next session can resume from, nil if nothing. It is
// called after run.
func (a *applier) level() *progress {
	if !a.resumable {
		return nil
	}
	at := a.progress()
	return &at
}
