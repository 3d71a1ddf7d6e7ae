module testdata

go 1.25.0

require github.com/retryutils/retry v0.0.0-00010101000000-000000000000

require github.com/jonboulle/clockwork v0.5.0

replace github.com/retryutils/retry => ../..
