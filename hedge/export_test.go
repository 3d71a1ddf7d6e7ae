package hedge

// Hosts returns how many hosts are known.
func Hosts(h *Hedge) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.hosts)
}
