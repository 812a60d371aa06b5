package main

import (
	"context"
	"fmt"
)

func (s *system) bringGluster(ctx context.Context, root string) error {
	return fmt.Errorf("GlusterFS: %w", errUnavailable)
}
