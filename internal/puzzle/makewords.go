//go:build ignore

// Makewords writes words.txt, the words of the cipher, from SCOWL, the word
// lists that Debian packages as "scowl" in /usr/share/dict/scowl:
//
//	go run makewords.go [FOLDER]
//
// It takes the common English words (SCOWL sizes 10 and 20, which are in the
// public domain: docs/puzzles.md) of 6 to 9 letters and leaves out those that
// are an anagram of any other word that a player might think of (sizes up to
// 70, all spellings), since only one of them would be right, and those that
// nobody wants to be asked for.
package main

import (
	"bufio"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// unwanted are stems of words that offend, or that spoil a game.
var unwanted = regexp.MustCompile(`^(rape|rapi(st|ng)|murder|suicid|sex|porn|prostitut|nazi|slave|slaver|genocid|tortur|terroris|incest|molest|orgasm|erotic|genital|fuck|shit|bitch|bastard|nigg|fagg|cunt|whore|slut|retard|cripple|spastic|racis|racial|negro|homosex|lesbian|abortion|kill(er|ed|ing)|corpse|cancer|semen|penis|vagina|vulva|breast|naked|nude|nudity|lynch|hang(ed|ing|man)|holocaust|bomb(er|ed|ing|s)|heroin|cocaine|drugs?|stab|strangl|behead|massacr|execut(ion|ed|ing)$|excrement|urine|urinat|faeces|vomit|diarrh|pervert|assault|hostage|crucif|damned|damnation|bloody|bugger|wank|tits|titt|piss|crap|arse|pussy|cock|dick|dildo|anal|anus|rectum|rectal|feces|savage|victim|funeral|coffin|dying|deadly|cannibal|bestial|castrat|mutilat|sadis|masochis|fascis|hitler|jihad|islam|jew|christ|catholic|muslim|protestan|abus(e|ed|er|ing|ive)|condom|contracep|menstr|intercours|seduc|virgin|lust|perver|obscen|swear|insult|stupid|idiot|moron|lunatic|poison|shooting|gunshot|assassin|violen|explod|explos|abduct|kidnap|beating|bleed|wounded|injur|fatal|illness|disease|leprosy|tumou?r|alcohol|blackmail|blacks|whites|church|communis|crimin|drunk|females?|gender|hackers?$|madness|missile|obnoxious|pray|prison|relig|screw|sicken|sinful|smok|straight|toilet|weapon|worship|bottom|fatuous|gay|queer|wartime|cumming|damning)|(rapist|fuck|shit|nigger|murder|suicide|slaught)`)

func main() {
	dir := "/usr/share/dict/scowl"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	spellings := map[string]map[string]bool{} // sorted letters → words
	for _, w := range read(dir, "*-words.*", "10", "20", "35", "40", "50", "55", "60", "70") {
		k := letters(w)
		if spellings[k] == nil {
			spellings[k] = map[string]bool{}
		}
		spellings[k][w] = true
	}
	var out []string
	for _, w := range read(dir, "english-words.*", "10", "20") {
		if len(spellings[letters(w)]) == 1 && !unwanted.MatchString(w) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if err := os.WriteFile("words.txt", []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	log.Printf("%d words", len(out))
}

var candidate = regexp.MustCompile(`^[a-z]{6,9}$`)

func read(dir, pattern string, sizes ...string) (words []string) {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		log.Fatalf("no %s in %s: install Debian's package scowl (%v)", pattern, dir, err)
	}
	for _, name := range files {
		if !slices.Contains(sizes, strings.TrimPrefix(filepath.Ext(name), ".")) {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			log.Fatal(err)
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if candidate.MatchString(s.Text()) {
				words = append(words, s.Text())
			}
		}
		f.Close()
	}
	return words
}

func letters(w string) string {
	b := []byte(w)
	slices.Sort(b)
	return string(b)
}
