module github.com/retryutils/retry

go 1.25.0

require github.com/jonboulle/clockwork v0.5.0

require github.com/stretchr/testify v1.12.1
