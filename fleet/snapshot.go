package fleet

import (
	"sync/atomic"
	"time"
)

// Snapshot is what a member knows of itself and its fleet. The counts are since
// Join.
type Snapshot struct {
	ID        string
	Members   int       // alive as of the last beat, this one too
	Connected bool      // to Redis, both ways
	Since     time.Time // when that last changed

	Sent         uint64 // pauses, reports and closes, sent or tried to
	Received     uint64 // messages, this member's own too
	Dropped      uint64 // messages that no member can have sent
	Stale        uint64 // messages that were old, so that Redis was asked
	Commands     uint64 // to Redis
	Errors       uint64 // of them, without an answer or with a wrong one
	Losses       uint64 // of the connection
	Syncs        uint64 // how often everything was asked for
	Trips        uint64 // of this process's breakers, by the fleet
	Contradicted uint64 // openings not followed, because own calls succeeded

	Gates, Breakers, Rates, Budgets int // joined, by name
}

type counts struct {
	sent, received, dropped, stale, commands, errors, losses, syncs, trips, contradicted atomic.Uint64
}

// Snapshot returns a copy, one count after the other.
func (f *Fleet) Snapshot() Snapshot {
	f.connection.mu.Lock()
	s := Snapshot{ID: f.id, Members: f.connection.members(), Connected: f.connection.up(), Since: f.connection.since}
	f.connection.mu.Unlock()
	f.mu.Lock()
	s.Gates, s.Breakers, s.Rates, s.Budgets = len(f.gates), len(f.breakers), len(f.rates), len(f.budgets)
	f.mu.Unlock()
	c := &f.counts
	s.Sent, s.Received, s.Dropped = c.sent.Load(), c.received.Load(), c.dropped.Load()
	s.Stale = c.stale.Load()
	s.Commands, s.Errors, s.Losses, s.Syncs = c.commands.Load(), c.errors.Load(), c.losses.Load(), c.syncs.Load()
	s.Trips, s.Contradicted = c.trips.Load(), c.contradicted.Load()
	return s
}
