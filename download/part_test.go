package download

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A part that got its final name, or was removed, between being opened and being locked
// is not there any more: what is written to it would go to the finished file.
func TestPartIsThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file.part")
	p, err := openPart(path)
	require.NoError(t, err)
	defer p.close()
	assert.True(t, p.isThere())
	_, err = openPart(path)
	assert.ErrorIs(t, err, ErrInUse)

	require.NoError(t, os.Rename(path, path+".final"))
	assert.False(t, p.isThere())
	other, err := openPart(path)
	require.NoError(t, err)
	defer other.close()
	assert.True(t, other.isThere())
	assert.False(t, p.isThere())
	p.remove() // does not remove the other's
	assert.True(t, other.isThere())

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Symlink(path+".final", path))
	_, err = openPart(path)
	assert.ErrorContains(t, err, "no regular file")
}
