package plugin_test

import (
	"testing"

	"github.com/golangci/plugin-module-register/register"

	_ "github.com/retryutils/retry/retrylint/plugin"
)

// golangci-lint gets the plugin by its name, with the settings of its
// configuration.
func TestPlugin(t *testing.T) {
	create, err := register.GetPlugin("retrylint")
	if err != nil {
		t.Fatal(err)
	}
	p, err := create(map[string]any{"disable": []string{"jitter"}})
	if err != nil {
		t.Fatal(err)
	}
	analyzers, err := p.BuildAnalyzers()
	if err != nil || len(analyzers) != 1 || p.GetLoadMode() != register.LoadModeTypesInfo {
		t.Fatal(analyzers, err, p.GetLoadMode())
	}
	if jitter, context := analyzers[0].Flags.Lookup("jitter"), analyzers[0].Flags.Lookup("context"); jitter.Value.String() != "false" || context.Value.String() != "true" {
		t.Error("the setting switches off jitter, and only that:", jitter.Value, context.Value)
	}
	if _, err := create(map[string]any{"disable": []string{"jiter"}}); err == nil {
		t.Error("a category that does not exist is accepted")
	}
	if _, err := create(nil); err != nil {
		t.Error("no settings:", err)
	}
}
