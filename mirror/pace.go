package mirror

import (
	"context"

	"golang.org/x/time/rate"
)

// pace bounds how many bytes of files a second work in the background reads, so
// that the program that writes keeps its share of the disks. Whoever has read
// takes what it was, with no lock held, and waits until that was due. A file
// counts as one region at least: to open it costs a disk about as much.
type pace struct {
	limiter *rate.Limiter // nil: no limit
}

func newPace(bytesPerSecond int64) pace {
	if bytesPerSecond == 0 {
		return pace{}
	}
	return pace{rate.NewLimiter(rate.Limit(bytesPerSecond), maxStride)}
}

// take waits until n bytes more may have been read, or ctx ends.
func (p pace) take(ctx context.Context, n int64) error {
	if p.limiter == nil {
		return ctx.Err()
	}
	for n > 0 {
		k := min(n, maxStride)
		if err := p.limiter.WaitN(ctx, int(k)); err != nil {
			return err
		}
		n -= k
	}
	return nil
}
