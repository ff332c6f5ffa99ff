// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	decoded, err := hex.DecodeString(text)
	*h = decoded
	return err
}

type test struct {
	TcID    int    `json:"tcId"`
	Comment string `json:"comment"`
	Result  string `json:"result"`

	Key, KeyID, Value, Encoding, Context, Material hexBytes
	Root, Normalised, IndexKey, Token, Label, Info hexBytes
	Okm, Mac, Map, Digest                          hexBytes

	Place, Pairs, WrapContext map[string]string
	Parts                     []rowPart
	Decoded, Row              json.RawMessage
	Text, JSON                string
	Bits, Size, Padded        int
	Number                    int32
}

type group struct {
	Type    string   `json:"type"`
	Codec   string   `json:"codec"`
	Members []string `json:"members"`
	Tests   []test   `json:"tests"`
}

type file struct {
	NumberOfTests int     `json:"numberOfTests"`
	TestGroups    []group `json:"testGroups"`
}

// errWrong: accepted, with another result than the vector's.
var errWrong = fmt.Errorf("accepted, but the result is another")

func same(ok bool) error {
	if ok {
		return nil
	}
	return errWrong
}

// text is the JSON string or boolean of a vector, as text.
func text(raw json.RawMessage) string {
	var content string
	if json.Unmarshal(raw, &content) == nil {
		return content
	}
	return string(raw)
}

func run(g group, t test) error {
	switch g.Type {
	case "FieldDecrypt":
		if t.Place["type"] != g.Codec {
			return errMisuse
		}
		context, err := canonical(t.Place)
		if err != nil {
			return err
		}
		encoding, err := open(t.Key, t.KeyID, t.Value, context, "lacre/1/field")
		if err != nil {
			return err
		}
		decoded, err := decode(g.Codec, encoding, g.Members)
		if err != nil {
			return err
		}
		return same(bytes.Equal(encoding, t.Encoding) && decoded == text(t.Decoded))
	case "Wrap":
		material, err := open(t.Key, t.KeyID, t.Value, t.Context, "lacre/1/wrap")
		if err != nil {
			return err
		}
		return same(bytes.Equal(material, t.Material))
	case "TextForm":
		value, err := fromText(t.Text)
		if err != nil {
			return err
		}
		return same(bytes.Equal(value, t.Value) && toText(t.Value) == t.Text)
	case "JsonForm":
		value, err := fromJSON(t.JSON)
		if err != nil {
			return err
		}
		return same(bytes.Equal(value, t.Value))
	case "BlindIndex":
		key, token, err := blindIndex(t.Root, t.Place, t.Normalised, t.Bits)
		if err != nil {
			return err
		}
		return same(bytes.Equal(key, t.IndexKey) && bytes.Equal(token, t.Token))
	case "IndexNumber":
		return same(indexNumber(t.Token, t.Bits) == t.Number)
	case "Canonical":
		out, err := canonical(t.Pairs)
		if err != nil {
			return err
		}
		return same(bytes.Equal(out, t.Map))
	case "KeyRow":
		out, err := canonical(t.Pairs)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(append(label("lacre/1/keyrow"), out...))
		wanted := map[string]string{
			"lacre-key": t.Pairs["key"],
			"lacre-row": base64.RawURLEncoding.EncodeToString(digest[:]),
		}
		for _, name := range strings.Fields("app class env kind service tenant") {
			wanted[name] = t.Pairs[name]
		}
		ok := len(wanted) == len(t.WrapContext) && hex.EncodeToString(out) == text(t.Row)
		for name, content := range wanted {
			ok = ok && t.WrapContext[name] == content
		}
		return same(ok)
	case "SubjectDigest":
		context, err := canonical(t.Pairs)
		if err != nil {
			return err
		}
		digest := sha256.Sum256(append(label("lacre/1/subject"), context...))
		return same(bytes.Equal(digest[:], t.Digest))
	case "StateMac":
		context, err := canonical(t.Pairs)
		if err != nil {
			return err
		}
		mac, err := expand(t.Key, label("lacre/1/state"), context, 32)
		if err != nil {
			return err
		}
		return same(bytes.Equal(mac, t.Mac))
	case "Expand":
		okm, err := expand(t.Key, t.Label, t.Info, t.Size)
		if err != nil {
			return err
		}
		return same(bytes.Equal(okm, t.Okm))
	case "Padding":
		return same(paddedLength(t.Size) == t.Padded)
	case "RowText":
		row, err := rowText(t.Parts)
		if err != nil {
			return err
		}
		return same(row == text(t.Row))
	}
	return fmt.Errorf("unknown group %q", g.Type)
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: lacre-interop FILE")
		os.Exit(2)
	}
	content, err := os.ReadFile(os.Args[1])
	var vectors file
	if err == nil {
		err = json.Unmarshal(content, &vectors)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	passed, failed := 0, 0
	for _, g := range vectors.TestGroups {
		for _, t := range g.Tests {
			err := run(g, t)
			refused := err == errTampered || err == errMisuse
			if (t.Result == "valid" && err == nil) || (t.Result == "invalid" && refused) {
				passed++
				fmt.Printf("ok %d %s: %s\n", t.TcID, g.Type, t.Comment)
				continue
			}
			failed++
			fmt.Printf("FAIL %d %s: %s (%s): %v\n", t.TcID, g.Type, t.Comment, t.Result, err)
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed != vectors.NumberOfTests {
		os.Exit(1)
	}
}
