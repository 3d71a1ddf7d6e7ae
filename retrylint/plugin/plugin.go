// Package plugin makes retrylint a module plugin of golangci-lint. Import it in
// .custom-gcl.yml, and name categories to switch off in .golangci.yml:
//
//	linters:
//	  settings:
//	    custom:
//	      retrylint:
//	        type: module
//	        settings:
//	          disable: [jitter, last-error]
package plugin

import (
	"fmt"
	"slices"

	"github.com/golangci/plugin-module-register/register"
	"golang.org/x/tools/go/analysis"

	"github.com/retryutils/retry/retrylint"
)

func init() { register.Plugin("retrylint", New) }

// Settings are those of .golangci.yml.
type Settings struct {
	Disable []string `json:"disable"`
	Enable  []string `json:"enable"` // of those that are not on by themselves
}

type plugin struct{ settings Settings }

// New makes the plugin from its settings. A category that does not exist is an
// error.
func New(raw any) (register.LinterPlugin, error) {
	settings, err := register.DecodeSettings[Settings](raw)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Concat(settings.Disable, settings.Enable) {
		if !slices.Contains(retrylint.Categories(), name) {
			return nil, fmt.Errorf("retrylint: no category %q to disable or enable; there are %v", name, retrylint.Categories())
		}
	}
	return plugin{settings}, nil
}

func (p plugin) BuildAnalyzers() ([]*analysis.Analyzer, error) {
	off := slices.DeleteFunc(retrylint.Optional(), func(name string) bool { return slices.Contains(p.settings.Enable, name) })
	return []*analysis.Analyzer{retrylint.New(append(off, p.settings.Disable...))}, nil
}

func (p plugin) GetLoadMode() string { return register.LoadModeTypesInfo }
