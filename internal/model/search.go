// Package model has models of the breaker and of the gate that are small enough to be
// read, and to be searched whole: every state that four calls can bring them to. Its
// tests check what must hold in each of these states, and replay all the ways into them,
// and long walks among them, on the real code.
//
// A model has no lock and no clock: a step of it is one call to the real thing, or time
// that passes. What the order of two calls is within the real thing is for the race
// detector and the stress tests; that each order is right is found here.
package model

import "math/rand/v2"

// Step is a change of a state S by an action A.
type Step[S, A comparable] struct {
	Action A
	To     S
}

// Graph is all states that can be reached from Start, in order of their distance from it.
type Graph[S, A comparable] struct {
	Start  S
	States []S
	Steps  map[S][]Step[S, A]
	from   map[S]arrival[S, A]
}

type arrival[S, A comparable] struct {
	state  S
	action A
}

// Search visits all states breadth-first.
func Search[S, A comparable](start S, steps func(S) []Step[S, A]) *Graph[S, A] {
	g := &Graph[S, A]{Start: start, States: []S{start}, Steps: make(map[S][]Step[S, A]), from: map[S]arrival[S, A]{start: {}}}
	for n := 0; n < len(g.States); n++ {
		s := g.States[n]
		g.Steps[s] = steps(s)
		for _, step := range g.Steps[s] {
			if _, known := g.from[step.To]; !known {
				g.from[step.To] = arrival[S, A]{s, step.Action}
				g.States = append(g.States, step.To)
			}
		}
	}
	return g
}

// Trace returns a shortest way from the start to a state.
func (g *Graph[S, A]) Trace(to S) (actions []A) {
	for to != g.Start {
		last := g.from[to]
		actions = append([]A{last.action}, actions...)
		to = last.state
	}
	return actions
}

// Traces returns ways from the start that take each step of the graph at least once.
func (g *Graph[S, A]) Traces() (all [][]A) {
	for _, s := range g.States {
		trace := g.Trace(s)
		for _, step := range g.Steps[s] {
			if g.from[step.To] == (arrival[S, A]{s, step.Action}) && len(g.Steps[step.To]) > 0 {
				continue // part of the ways on from there
			}
			all = append(all, append(trace[:len(trace):len(trace)], step.Action))
		}
	}
	return all
}

// Walk returns a long way from the start, by chance, on which rare actions are rare. What
// the model holds to be the same state may be two in the real thing, if that is wrong:
// shortest ways do not show it.
func (g *Graph[S, A]) Walk(random *rand.Rand, length int, rare func(A) bool) (actions []A) {
	for s := g.Start; len(actions) < length && len(g.Steps[s]) > 0; {
		step := g.Steps[s][random.IntN(len(g.Steps[s]))]
		if rare(step.Action) && random.IntN(20) > 0 {
			continue
		}
		actions, s = append(actions, step.Action), step.To
	}
	return actions
}

// CanReach returns the states from which steps of a kind lead to a goal.
func (g *Graph[S, A]) CanReach(goal func(S) bool, by func(A) bool) map[S]bool {
	back := make(map[S][]S)
	can := make(map[S]bool)
	var queue []S
	for _, s := range g.States {
		for _, step := range g.Steps[s] {
			if by(step.Action) {
				back[step.To] = append(back[step.To], s)
			}
		}
		if goal(s) {
			can[s], queue = true, append(queue, s)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, s := range back[queue[0]] {
			if !can[s] {
				can[s], queue = true, append(queue, s)
			}
		}
	}
	return can
}
