package retrylint

// A cycle is a natural loop: a head, and the nodes from which one comes back to
// it without leaving through it.
type cycle struct {
	head  *node
	nodes set
	backs []edge // the edges to the head
}

// cycles returns the natural loops of g, those with the same head as one.
func (g *graph) cycles() []*cycle {
	if len(g.nodes) == 0 {
		return nil
	}
	dom, order := g.dominators()
	byHead := map[*node]*cycle{}
	var all []*cycle
	for _, n := range order {
		for i, h := range n.succs {
			if !dominates(dom, h, n) {
				continue
			}
			c := byHead[h]
			if c == nil {
				c = &cycle{head: h, nodes: set{h: true}}
				byHead[h] = c
				all = append(all, c)
			}
			c.backs = append(c.backs, edge{n, i})
			c.grow(n, dom)
		}
	}
	return all
}

// grow adds what leads to n without passing the head.
func (c *cycle) grow(n *node, dom []*node) {
	for todo := []*node{n}; len(todo) > 0; {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if c.nodes[n] {
			continue
		}
		c.nodes[n] = true
		for _, p := range n.preds {
			if dom[p.index] != nil { // reachable
				todo = append(todo, p)
			}
		}
	}
}

// dominators returns the immediate dominator of each reachable node (the
// entry's is itself) and the reachable nodes in reverse postorder. The algorithm
// is that of Cooper, Harvey and Kennedy.
func (g *graph) dominators() (dom, order []*node) {
	number := make([]int, len(g.nodes))
	seen := make([]bool, len(g.nodes))
	var visit func(*node)
	visit = func(n *node) {
		seen[n.index] = true
		for _, s := range n.succs {
			if !seen[s.index] {
				visit(s)
			}
		}
		order = append(order, n)
	}
	visit(g.nodes[0])
	for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
		order[i], order[j] = order[j], order[i]
	}
	for i, n := range order {
		number[n.index] = i
	}
	dom = make([]*node, len(g.nodes))
	dom[order[0].index] = order[0]
	for changed := true; changed; {
		changed = false
		for _, n := range order[1:] {
			var d *node
			for _, p := range n.preds {
				if dom[p.index] == nil {
					continue
				}
				d = meet(dom, number, p, d)
			}
			if d != nil && dom[n.index] != d {
				dom[n.index] = d
				changed = true
			}
		}
	}
	return dom, order
}

// meet returns the nearest node that dominates both a and d; a if d is nil.
func meet(dom []*node, number []int, a, d *node) *node {
	if d == nil {
		return a
	}
	for a != d {
		for number[a.index] > number[d.index] {
			a = dom[a.index]
		}
		for number[d.index] > number[a.index] {
			d = dom[d.index]
		}
	}
	return d
}

func dominates(dom []*node, a, n *node) bool {
	for dom[n.index] != nil {
		if n == a {
			return true
		}
		if dom[n.index] == n {
			return false
		}
		n = dom[n.index]
	}
	return false
}
