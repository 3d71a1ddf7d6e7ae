package retry

// closed begins a closed period.
func (b *CircuitBreaker) closed() *period {
	return &period{entersUnlocked: b.window == nil || b.window.slow == nil, succeedsUnlocked: b.window == nil}
}

// admitWatched lets a call pass that counts as slow after a while. b.mu must be
// held.
func (b *CircuitBreaker) admitWatched(p *period, stretch float64) (pass, error) {
	if p.entersUnlocked {
		p.requests.Add(1)
		return pass{period: p}, nil
	}
	b.window.advance(b.clock)
	if b.window.becameSlow() {
		if cause := b.window.tooSlow(); cause != "" { // those in flight are enough to open it
			b.trip(result{stretch: stretch}, cause)
			p = b.current.Load()
			return b.rejectOpen(p, p.open.left(b.clock))
		}
	}
	p.requests.Add(1)
	return pass{period: p, watched: b.window.watch()}, nil
}

// succeed counts a success that can change nothing but counts.
func (b *CircuitBreaker) succeed(p *period) {
	if p.succeedsUnlocked {
		p.successes.Add(1)
		p.endRun()
		return
	}
	b.mu.Lock()
	if p == b.current.Load() {
		b.window.advance(b.clock)
		b.window.count(success)
		p.successes.Add(1)
		p.endRun()
	}
	b.mu.Unlock()
}

// endRun is called at a success: there are no failures in a row any more.
func (p *period) endRun() {
	if p.consecutive.Load() != 0 {
		p.consecutive.Store(0)
	}
}

// settleClosed counts a result in a closed period. A success opens the breaker
// only by having been slow. b.mu must be held.
func (b *CircuitBreaker) settleClosed(from pass, r result) {
	p, cause := from.period, ""
	if b.window != nil {
		b.window.advance(b.clock)
		b.window.count(r.verdict)
		if b.window.slow != nil {
			if ended, found := b.window.unwatch(from.watched, r.verdict), b.window.becameSlow(); ended || found {
				cause = b.window.tooSlow()
			}
		}
	}
	switch r.verdict {
	case success:
		p.successes.Add(1)
		p.endRun()
	case neutral:
		p.neutrals++
	case failure:
		p.failures++
		b.last = r.err
		n := p.consecutive.Add(1)
		if b.threshold > 0 && n >= b.threshold {
			cause = count(asInt(n), "failure") + " in a row"
		} else if cause == "" && b.window != nil {
			cause = b.window.failing()
		}
	}
	if cause != "" {
		b.trip(r, cause)
	}
}
