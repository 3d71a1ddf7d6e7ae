package retry

// AddResults counts results that would take too long to come about, as if they were
// of the current period and bucket.
func (b *CircuitBreaker) AddResults(successes, failures, neutrals int64) {
	p := b.period()
	b.mu.Lock()
	defer b.mu.Unlock()
	p.requests.Add(successes + failures + neutrals)
	p.successes.Add(successes)
	p.consecutive.Add(failures)
	p.failures += failures
	p.neutrals += neutrals
	bucket := &b.window.buckets[b.window.newest%buckets]
	bucket.successes += successes
	bucket.failures += failures
	bucket.neutrals += neutrals
}

// MaxHosts is how many hosts a client remembers.
const MaxHosts = maxHosts

// Spellings returns how many spellings of addresses the client remembers.
func (c *RetryableClient) Spellings() int {
	c.core.hosts.mu.Lock()
	defer c.core.hosts.mu.Unlock()
	return len(c.core.hosts.bySrc)
}
