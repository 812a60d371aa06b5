package mirror

import (
	"context"
	"slices"

	"github.com/standbyfs/standbyfs/fs/op"
	"github.com/standbyfs/standbyfs/mirror/region"
)

// verdict is who is right about an item, at a moment.
type verdict struct {
	own   seen
	right seen    // the primary if it is
	wrong []*peer // all mirrors that are not, or do not tell
	nodes []op.NodeID
	marks []region.Mark // where these may be wrong
}

// judge finds out who has the chosen version. The caller keeps it from changing.
func (m *mending) judge(ctx context.Context, c *Choice) (verdict, error) {
	all, err := m.views.look(ctx, string(c.Path), c.Regions)
	if err != nil {
		return verdict{}, err
	}
	var other []seen
	if c.Aspect == AspectLink {
		if other, err = m.views.look(ctx, string(c.With[0]), nil); err != nil {
			return verdict{}, err
		}
	}
	v := verdict{own: all[0]}
	var right []*peer
	for _, s := range all {
		id := s.version(c.Aspect)
		if c.Aspect == AspectLink {
			at := slices.IndexFunc(other, func(o seen) bool { return o.peer == s.peer })
			if at < 0 {
				continue
			}
			id = tied(&s, &other[at])
		}
		if id != c.Version {
			continue
		}
		if len(right) == 0 {
			v.right = s
		}
		right = append(right, s.peer)
	}
	if len(right) == 0 {
		return v, ErrChanged
	}
	known := map[op.NodeID]bool{m.log.cfg.Self: true}
	m.log.mu.Lock()
	for _, p := range m.log.peers {
		if slices.Contains(right, p) {
			known[p.node] = true
		} else if p.node != 0 {
			v.wrong = append(v.wrong, p)
			v.nodes = append(v.nodes, p.node)
			known[p.node] = true
		}
	}
	m.log.mu.Unlock()
	if regions := m.log.cfg.Regions; regions != nil {
		for _, n := range regions.Nodes() {
			if !known[n] {
				v.nodes = append(v.nodes, n)
			}
		}
	}
	v.marks = c.marks(all)
	return v, nil
}

// marks says where those who are wrong about it may differ.
func (c *Choice) marks(all []seen) []region.Mark {
	path := string(c.Path)
	switch c.Aspect {
	case AspectContent:
		var marks []region.Mark
		for _, off := range c.Regions {
			marks = append(marks, region.Mark{Path: path, From: off, To: off + op.RegionSize})
		}
		return marks
	case AspectAttributes:
		mark := region.Mark{Path: path}
		for _, s := range all {
			if s.put == nil || all[0].put == nil {
				return []region.Mark{{Path: path, Scope: region.Tree}}
			}
			if s.put.Attr.Size != all[0].put.Attr.Size { // what lies behind the shorter one
				from := min(s.put.Attr.Size, all[0].put.Attr.Size)
				if mark.To != 0 {
					from = min(from, mark.From)
				}
				mark.From, mark.To = from/op.RegionSize*op.RegionSize, region.End
			}
		}
		return []region.Mark{mark}
	}
	marks := []region.Mark{{Path: path, Scope: region.Tree}}
	for _, with := range c.With {
		marks = append(marks, region.Mark{Path: string(with), Scope: region.Tree})
	}
	return marks
}

// record takes down durably what others lack, before anything rests on it: a
// crash from here on leaves nothing unlooked at (RULES.md 8, CmpPrimaryStale).
func (m *mending) record(v *verdict) error {
	if m.log.cfg.Regions == nil {
		return nil
	}
	for _, n := range v.nodes {
		if err := m.log.cfg.Regions.Lacks(n, v.marks); err != nil {
			return err
		}
	}
	return nil
}
