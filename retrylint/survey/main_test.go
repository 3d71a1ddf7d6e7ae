package main

import "testing"

// The lists are read, and speak of the same modules.
func TestData(t *testing.T) {
	modules, err := readModules("modules.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range modules {
		listed[m.String()] = true
	}
	judged, err := readJudged("judged.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range judged {
		if !listed[j.module] || j.verdict != "true" && j.verdict != "false" || j.verdict == "false" && j.reason == "" {
			t.Errorf("judged.tsv: %+v", j)
		}
	}
	loops, err := readLoops("loops.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range loops {
		if !listed[k.module] {
			t.Errorf("loops.tsv: %+v", k)
		}
	}
	if len(modules) < 80 || len(judged) < 200 || len(loops) < 80 {
		t.Errorf("%d modules, %d judgements, %d loops", len(modules), len(judged), len(loops))
	}
}
