package mirror

// Lost says that the disk has lost what was written to the replica, of which the
// mirrors have a copy that the caller of an fsync was told not to rely on. Every
// mirror is compared with what the disk has: it was hot, so the repair looks at it
// (RULES.md 8, CmpPrimaryHot).
func (l *Log) Lost(why string) { l.disown(why) }

// disown makes every mirror start over, after an op took effect here that
// could not be put into the stream.
func (l *Log) disown(why string) {
	l.event("disowned", "every mirror is compared anew: "+why)
	l.mu.Lock()
	l.ring.drop()
	l.mu.Unlock()
	for _, p := range l.peers {
		p.nudge()
	}
}
