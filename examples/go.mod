module github.com/retryutils/retry/examples

go 1.25.0

replace github.com/retryutils/retry => ../

require (
	github.com/retryutils/retry v0.0.0-00010101000000-000000000000
	github.com/schollz/progressbar/v3 v3.18.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/term v0.36.0
	golang.org/x/time v0.14.0
)

require (
	github.com/jonboulle/clockwork v0.5.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.37.0 // indirect
)
