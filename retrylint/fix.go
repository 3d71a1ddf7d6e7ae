package retrylint

import "golang.org/x/tools/go/analysis"

func (l *loop) rewrite() *analysis.SuggestedFix { return nil }
