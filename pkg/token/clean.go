package token

import (
	"regexp"
	"strings"
	"unicode"
)

// quotes are those of programs, the typographic ones of documents, and brackets.
const quotes = "[\"'`´‘’‚‛“”„‟«»‹›<>(){}\\[\\]]"

// mistakes are texts that K3s would take as a password, but that people give by
// mistake. The first that matches counts.
var mistakes = []struct {
	reason, remedy string
	pattern        *regexp.Regexp
}{
	{"must not be empty", "", anyOf(`^$`)},
	{"must be in UTF-8, not in UTF-16", "save the file in UTF-8", anyOf(`\x00`)},
	{"must be one of K3s, not of kubeadm", "use a token of a K3s cluster", anyOf(
		`\bkubeadm\s+join\b`,
		`--discovery-`,
		`^sha256:`,
	)},
	{"must be one of K3s, not of k0s", "use a token of a K3s cluster", anyOf(`(^|\s)H4sI[\w+/=\s-]{8,}$`)},
	{"must be one of K3s, not of a ServiceAccount", "use a token of a K3s cluster", anyOf(`^eyJ[\w-]+\.eyJ[\w-]+\.`)},
	{"must be the token alone, not a command", "remove all but the token", anyOf(
		`(?s)\b(curl|wget|sudo|docker|podman)\s.*(://|_TOKEN=)`,
		`\b(k3s|rke2)\s+(agent|server)\s`,
		`\s--(token|server)[=\s]`,
		`\b(K3S|RKE2)_URL=`,
	)},
	{"must not be part of an HTTP header", `remove "Authorization:", "Bearer" or "Basic" in front of it`, anyOf(
		`(?i)\bauthorization\s*:`,
		`(?i)^(bearer|basic)[\s:]+\S+$`,
	)},
	{"must not be the name of a variable", "give the token itself", anyOf(`^(\$\w+|\$\{\w+\}|%\w+%)$`)},
	{"must not follow a flag", "remove --token or -t in front of it", anyOf(`^[-–—]{1,2}((agent-)?token|t)[=\s]`)},
	{"must not follow a name", "remove the name in front of it, such as K3S_TOKEN= or token:, and any quotes", anyOf(
		`(?im)^\W*((export|set|setenv|env|environment)\W+(-\w+\s+)?)?(k3s|rke2)_(agent_)?token\W`,
		`(?im)^\W*((export|set|env)\s+)?((agent|server|node|join)[_-])?token\W?\s*[=:]`,
	)},
	{"must not be in quotes or brackets", "remove what is around it", anyOf(
		`(?s)^\\?`+quotes+`.*`+quotes+`[,;]?$`,
		`^`+quotes+`K10`,
	)},
	{"must be on one line", "give one token without line breaks", anyOf(`[\r\n]`)},
	{"must start with K10", "write K10 in front of the CA hash", anyOf(
		`^\w{0,3}[[:xdigit:]]{60,}::`,
		`^[Kk]\d+::`,
	)},
	{"must have two colons after the CA hash", "write :: between the CA hash and the credentials", anyOf(
		`^K10[[:xdigit:]]{60,}(:[^:]|[^:[:xdigit:]])`,
	)},
	{"must be in lower case", "write the token in lower case", anyOf(`(?i)^[a-z0-9]{6}\.[a-z0-9]{16}$`)},
	{"must be the token alone", "remove the text around it", anyOf(
		`\WK10[0-9a-f]{64}::`,
		`(^|[\s=:,;"'])[a-z0-9]{6}\.[a-z0-9]{16}($|[\s,;"'])`,
	)},
}

// anyOf returns a pattern that matches if one of the given ones does.
func anyOf(patterns ...string) *regexp.Regexp {
	return regexp.MustCompile("(?:" + strings.Join(patterns, ")|(?:") + ")")
}

// complete is a token in secure format, of which Parse names each fault. Its
// password may be any text, so nothing in it is a mistake.
var complete = regexp.MustCompile(`^K10[^\r\n]*::[^\r\n]*$`)

// Clean returns the token in a text that a person gave, such as the content of a
// file. It removes white space, a byte order mark and other invisible characters
// around the token. The error is a *ParseError if the text is surely no token as it
// stands, though K3s would take it as a password. To use such a password all the
// same, write it in secure format.
func Clean(text string) (string, error) {
	s := strings.TrimFunc(text, func(r rune) bool { return unicode.In(r, unicode.White_Space, unicode.Cf) })
	if _, err := ParseBootstrap(s); err == nil || complete.MatchString(s) {
		return s, nil
	}
	for _, mistake := range mistakes {
		if mistake.pattern.MatchString(s) {
			return "", &ParseError{"token", mistake.reason, mistake.remedy}
		}
	}
	return s, nil
}
