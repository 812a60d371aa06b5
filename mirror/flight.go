package mirror

import "github.com/standbyfs/standbyfs/fs/op"

// flight counts the work that a resync or a verify has on its way to one mirror.
// What comes behind it in the stream, a call that somebody waits for, waits for
// that work as well. So it is counted by what it costs the mirror: a comparison
// of a MiB is a kilobyte in the stream, and a MiB to be read. The log's lock
// guards it.
type flight struct {
	legs []leg
	work int64 // of all legs
}

// leg is some work in a row, that has landed when the mirror has acknowledged
// the stream up to end.
type leg struct {
	end  uint64 // an offset in the ring's bytes
	work int64
}

// grain is how much work a leg has at least, before the next begins: small ops
// come by the ten thousands.
const grain = 64 << 10

// roomy reports whether a mirror has done most of what was sent to it. The caller
// holds mu.
func (p *peer) roomy() bool {
	return p.flight.work <= p.log.window() && !p.farther()
}

// work is what an op of a resync or a verify costs a mirror, in bytes: those of
// its frame, and those of its replica that have to be read. Holes are not. A file
// counts as a region, however small, as it does for pace: it has to be found.
func work(o *op.Op, frame []byte) int64 {
	n := int64(len(frame))
	switch {
	case o.Kind == op.Check && len(o.Data) > 0:
		n += o.Len
	case o.Kind == op.Survey:
		n += int64(len(o.Names)) * op.RegionSize
	}
	return n
}

// add says that some work ends at an offset of the stream.
func (f *flight) add(end uint64, work int64) {
	f.work += work
	if n := len(f.legs); n > 0 && f.legs[n-1].work < grain {
		f.legs[n-1].end = end
		f.legs[n-1].work += work
		return
	}
	f.legs = append(f.legs, leg{end, work})
}

// land says that the mirror has done all up to an offset.
func (f *flight) land(offset uint64) {
	n := 0
	for ; n < len(f.legs) && f.legs[n].end <= offset; n++ {
		f.work -= f.legs[n].work
	}
	f.legs = f.legs[n:]
}
