package projected

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTokensAreReadAsTheyWereWritten(t *testing.T) {
	for _, token := range []Token{{0: 0}, {3: 12345}, {math.MaxInt32: math.MaxInt64 - 1}, {0: 1, 1: 2, 11: 300}} {
		read, err := ParseToken(token.String())
		require.NoError(t, err)
		require.Equal(t, token, read)
	}
	require.Empty(t, Token{}.String())
	require.Regexp(t, `^[A-Za-z0-9_-]{4,8}$`, Token{3: 12345}.String(), "it fits into a header and a URL")
}

func TestATokenCoversTheLatest(t *testing.T) {
	token := Token{}
	token.Add(1, 7)
	token.Add(1, 5)
	token.Add(0, 0)
	require.Equal(t, Token{0: 0, 1: 7}, token)
}

func TestTheLargestTokenIsWithinItsBound(t *testing.T) {
	token := Token{}
	for i := range partitionsMax {
		token.Add(int32(math.MaxInt32-i), math.MaxInt64-1)
	}
	require.LessOrEqual(t, len(token.String()), TokenBytesMax)
	read, err := ParseToken(token.String())
	require.NoError(t, err)
	require.Equal(t, token, read)
	token.Add(0, 0)
	_, err = ParseToken(token.String())
	require.Error(t, err)
}

func TestATokenOfManyPartitionsIsRead(t *testing.T) {
	token := Token{}
	for i := range int32(300) {
		token.Add(i, 5_000_000_000)
	}
	read, err := ParseToken(token.String())
	require.NoError(t, err)
	require.Equal(t, token, read)
}

func FuzzParseToken(f *testing.F) {
	for _, text := range []string{"", "AQ", "AQMB", "AgMB", "!", "AQMBAw", Token{3: 12345}.String(), strings.Repeat("A", TokenBytesMax+1)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			require.Nil(t, token)
			return
		}
		require.NotEmpty(t, token)
		again, err := ParseToken(token.String())
		require.NoError(t, err)
		require.Equal(t, token, again)
		for partition, offset := range token {
			require.GreaterOrEqual(t, partition, int32(0))
			require.GreaterOrEqual(t, offset, int64(0))
		}
	})
}
