// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var (
	intText     = regexp.MustCompile(`\A(0|-?[1-9][0-9]*)\z`)
	decimalText = regexp.MustCompile(`\A(-?)([0-9]+)(\.[0-9]+)?(E[+-][1-9][0-9]*)?\z`)
	firstDay    = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
)

// decode is section 9. It returns the value in the spelling of the vectors.
func decode(codec string, data []byte, members []string) (string, error) {
	switch codec {
	case "str":
		if utf8.Valid(data) {
			return string(data), nil
		}
	case "int":
		if isInt(string(data)) {
			return string(data), nil
		}
	case "decimal":
		if isDecimal(string(data)) {
			return string(data), nil
		}
	case "date":
		if len(data) == 4 {
			if day := binary.BigEndian.Uint32(data); day >= 1 && day <= 3652059 {
				return firstDay.AddDate(0, 0, int(day)-1).Format("2006-01-02"), nil
			}
		}
	case "datetime":
		if len(data) == 16 {
			return decodeDatetime(binary.BigEndian.Uint64(data), int64(binary.BigEndian.Uint64(data[8:])))
		}
	case "bytes":
		return hex.EncodeToString(data), nil
	case "bool":
		if len(data) == 1 && data[0] <= 1 {
			return strconv.FormatBool(data[0] == 1), nil
		}
	case "json":
		if isCanonicalJSON(data) {
			return string(data), nil
		}
	case "uuid":
		if len(data) == 16 {
			return fmt.Sprintf("%x-%x-%x-%x-%x", data[:4], data[4:6], data[6:8], data[8:10], data[10:]), nil
		}
	case "enum":
		for _, member := range members {
			if member == string(data) {
				return member, nil
			}
		}
	}
	return "", errTampered
}

func isInt(text string) bool {
	return intText.MatchString(text) && len(strings.TrimPrefix(text, "-")) <= 640
}

// isDecimal reads the text as sign, coefficient and exponent, writes these by
// the rule of section 9 and compares.
func isDecimal(text string) bool {
	found := decimalText.FindStringSubmatch(text)
	if found == nil || len(text) > 5000 {
		return false
	}
	sign, whole, fraction := found[1], found[2], strings.TrimPrefix(found[3], ".")
	exponent := 0
	if found[4] != "" {
		var err error
		if exponent, err = strconv.Atoi(found[4][1:]); err != nil {
			return false
		}
	}
	e := exponent - len(fraction)
	c := strings.TrimLeft(whole+fraction, "0")
	if c == "" {
		c = "0"
	}
	size := e
	if size < 0 {
		size = -size
	}
	if len(c)+size > 4096 {
		return false
	}
	a := e + len(c) - 1
	var out string
	switch {
	case e <= 0 && a >= -6:
		digits := c
		if -e >= len(digits) {
			digits = strings.Repeat("0", -e-len(digits)+1) + digits
		}
		out = digits[:len(digits)+e]
		if e < 0 {
			out += "." + digits[len(digits)+e:]
		}
	default:
		out = c[:1]
		if len(c) > 1 {
			out += "." + c[1:]
		}
		out += fmt.Sprintf("E%+d", a)
	}
	return sign+out == text
}

func decodeDatetime(micros uint64, offset int64) (string, error) {
	const day = 86400000000
	if micros > 315537897599999999 {
		return "", errTampered
	}
	clock := firstDay.AddDate(0, 0, int(micros/day)).Add(time.Duration(micros%day) * time.Microsecond)
	text := clock.Format("2006-01-02T15:04:05.000000")
	if offset == math.MinInt64 {
		return text, nil
	}
	if offset <= -day || offset >= day {
		return "", errTampered
	}
	sign := "+"
	if offset < 0 {
		sign, offset = "-", -offset
	}
	seconds, fraction := offset/1000000, offset%1000000
	text += fmt.Sprintf("%s%02d:%02d", sign, seconds/3600, seconds/60%60)
	if seconds%60 != 0 || fraction != 0 {
		text += fmt.Sprintf(":%02d", seconds%60)
	}
	if fraction != 0 {
		text += fmt.Sprintf(".%06d", fraction)
	}
	return text, nil
}

// isCanonicalJSON reads the text token by token, writes it again in the
// spelling of section 9 and compares.
func isCanonicalJSON(data []byte) bool {
	if !utf8.Valid(data) {
		return false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var out strings.Builder
	if !rewrite(decoder, &out, 0) {
		return false
	}
	if _, err := decoder.Token(); err != io.EOF {
		return false
	}
	return out.String() == string(data)
}

func rewrite(decoder *json.Decoder, out *strings.Builder, depth int) bool {
	token, err := decoder.Token()
	if err != nil || depth > 64 {
		return false
	}
	switch item := token.(type) {
	case nil:
		out.WriteString("null")
	case bool:
		out.WriteString(strconv.FormatBool(item))
	case string:
		writeJSONString(out, item)
	case json.Number:
		number, ok := canonicalNumber(item.String())
		out.WriteString(number)
		return ok
	case json.Delim:
		if item != '[' && item != '{' {
			return false
		}
		out.WriteRune(rune(item))
		seen := map[string]bool{}
		for first := true; decoder.More(); first = false {
			if !first {
				out.WriteByte(',')
			}
			if item == '{' {
				token, err := decoder.Token()
				name, ok := token.(string)
				if err != nil || !ok || seen[name] {
					return false
				}
				seen[name] = true
				writeJSONString(out, name)
				out.WriteByte(':')
			}
			if !rewrite(decoder, out, depth+1) {
				return false
			}
		}
		end, err := decoder.Token()
		if err != nil {
			return false
		}
		out.WriteRune(rune(end.(json.Delim)))
	}
	return true
}

func canonicalNumber(text string) (string, bool) {
	if !strings.ContainsAny(text, ".eE") {
		return text, isInt(text)
	}
	number, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return "", false
	}
	size := math.Abs(number)
	if size == 0 || (size >= 1e-4 && size < 1e16) {
		plain := strconv.FormatFloat(number, 'f', -1, 64)
		if !strings.Contains(plain, ".") {
			plain += ".0"
		}
		return plain, true
	}
	return strconv.FormatFloat(number, 'e', -1, 64), true
}

func writeJSONString(out *strings.Builder, text string) {
	out.WriteByte('"')
	for _, char := range text {
		switch {
		case char == '"' || char == '\\':
			out.WriteByte('\\')
			out.WriteRune(char)
		case char == '\b':
			out.WriteString(`\b`)
		case char == '\t':
			out.WriteString(`\t`)
		case char == '\n':
			out.WriteString(`\n`)
		case char == '\f':
			out.WriteString(`\f`)
		case char == '\r':
			out.WriteString(`\r`)
		case char < 0x20:
			fmt.Fprintf(out, `\u%04x`, char)
		default:
			out.WriteRune(char)
		}
	}
	out.WriteByte('"')
}
