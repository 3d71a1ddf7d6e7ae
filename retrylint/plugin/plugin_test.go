package plugin_test

import (
	"strconv"
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
	for _, on := range []bool{false, true} {
		enable := []string{}
		if on {
			enable = append(enable, "no-wait")
		}
		p, err := create(map[string]any{"enable": enable})
		if err != nil {
			t.Fatal(err)
		}
		analyzers, err := p.BuildAnalyzers()
		if err != nil || analyzers[0].Flags.Lookup("no-wait").Value.String() != strconv.FormatBool(on) {
			t.Errorf("no-wait is reported where it is enabled: %v %v", enable, err)
		}
	}
	for _, setting := range []string{"disable", "enable"} {
		if _, err := create(map[string]any{setting: []string{"jiter"}}); err == nil {
			t.Errorf("%s: a category that does not exist is accepted", setting)
		}
	}
	if _, err := create(nil); err != nil {
		t.Error("no settings:", err)
	}
}
