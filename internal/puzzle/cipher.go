package puzzle

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Cipher: unscramble a word. The answer is the word, in any case.

//go:generate go run makewords.go
//go:embed words.txt
var wordsText string

// words is sorted, and no two are anagrams of each other.
var words = strings.Fields(wordsText)

const wordBytesMax = 9

type cipherPrompt struct {
	Letters string `json:"letters"` // the word's, scrambled
	First   string `json:"first"`   // the letter that the word begins with
}

func cipherWord(s seed) string {
	d := answerDice(s)
	return words[d.below(len(words))]
}

func cipherPromptOf(s seed) cipherPrompt {
	word := cipherWord(s)
	b := []byte(word)
	for rng := surroundings(s); string(b) == word; {
		rng.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	}
	return cipherPrompt{Letters: string(b), First: word[:1]}
}

func cipherAnswers(s seed, answer string) bool {
	var lower [wordBytesMax]byte
	if len(answer) > len(lower) {
		return false
	}
	for i := range len(answer) {
		c := answer[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return same(lower[:len(answer)], cipherWord(s))
}

// wordByLetters finds a word by its letters in order: "acinr" → "cairn".
var wordByLetters = sync.OnceValue(func() map[string]string {
	m := make(map[string]string, len(words))
	for _, w := range words {
		m[sortedLetters(w)] = w
	}
	return m
})

func sortedLetters(w string) string {
	b := []byte(w)
	slices.Sort(b)
	return string(b)
}

func (p *cipherPrompt) solve() (string, error) {
	w, ok := wordByLetters()[sortedLetters(p.Letters)]
	if !ok {
		return "", fmt.Errorf("letters %.20q make no word of the list", p.Letters)
	}
	return w, nil
}
