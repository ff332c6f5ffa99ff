// SPDX-License-Identifier: Apache-2.0

// A second checker of proofs that an event is in an evidence log, written from the specifications:
// spec/evidence-log.md, sections 6 and 7, c2sp.org/tlog-proof, c2sp.org/signed-note and RFC 9162.
// It shares no code with the first. Usage: tlogcheck FILE NAME+ID+KEY; prints the leaf.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var errRefused = errors.New("the file proves nothing")

type verifier struct {
	name string
	id   []byte
	kind byte
	key  []byte
}

func decoded(text string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil || base64.StdEncoding.EncodeToString(data) != text {
		return nil, errRefused
	}
	return data, nil
}

func readVerifier(text string) (*verifier, error) {
	words := strings.SplitN(strings.TrimSpace(text), "+", 3)
	if len(words) != 3 {
		return nil, errRefused
	}
	data, err := decoded(words[2])
	if err != nil || len(data) < 2 {
		return nil, errRefused
	}
	v := &verifier{name: words[0], kind: data[0], key: data[1:]}
	hashed := v.key
	if v.kind == 1 {
		hashed = append([]byte(v.name+"\n\x01"), v.key...)
	}
	sum := sha256.Sum256(hashed)
	v.id = sum[:4]
	if hex.EncodeToString(v.id) != words[1] {
		return nil, errRefused
	}
	return v, nil
}

func (v *verifier) signed(text, signature []byte) bool {
	switch v.kind {
	case 1:
		return len(v.key) == ed25519.PublicKeySize && ed25519.Verify(v.key, text, signature)
	case 2:
		found, err := x509.ParsePKIXPublicKey(v.key)
		key, right := found.(*ecdsa.PublicKey)
		sum := sha256.Sum256(text)
		return err == nil && right && ecdsa.VerifyASN1(key, sum[:], signature)
	}
	return false
}

// openNote returns the text of a note that v signed.
func openNote(note string, v *verifier) (string, error) {
	at := strings.LastIndex(note, "\n\n")
	if at < 0 || !strings.HasSuffix(note, "\n") {
		return "", errRefused
	}
	text, lines := note[:at+1], strings.Split(strings.TrimSuffix(note[at+2:], "\n"), "\n")
	believed := false
	for _, line := range lines {
		words := strings.Split(line, " ")
		if len(words) != 3 || words[0] != "—" {
			return "", errRefused
		}
		data, err := decoded(words[2])
		if err != nil || len(data) < 5 {
			return "", errRefused
		}
		if words[1] != v.name || !bytes.Equal(data[:4], v.id) {
			continue
		}
		if !v.signed([]byte(text), data[4:]) {
			return "", errRefused
		}
		believed = true
	}
	if !believed {
		return "", errRefused
	}
	return text, nil
}

func nodeHash(left, right []byte) []byte {
	sum := sha256.Sum256(append(append([]byte{1}, left...), right...))
	return sum[:]
}

// included is RFC 9162, section 2.1.3.2.
func included(index, size uint64, leaf []byte, proof [][]byte, root []byte) bool {
	if index >= size {
		return false
	}
	sum := sha256.Sum256(append([]byte{0}, leaf...))
	found, fn, sn := sum[:], index, size-1
	for _, each := range proof {
		if sn == 0 {
			return false
		}
		if fn&1 == 1 || fn == sn {
			found = nodeHash(each, found)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			found = nodeHash(found, each)
		}
		fn, sn = fn>>1, sn>>1
	}
	return sn == 0 && bytes.Equal(found, root)
}

func number(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil || strconv.FormatUint(n, 10) != text {
		return 0, errRefused
	}
	return n, nil
}

func check(content string, v *verifier) (string, error) {
	head, note, cut := strings.Cut(content, "\n\n")
	lines := strings.Split(head, "\n")
	if !cut || len(lines) < 3 || lines[0] != "c2sp.org/tlog-proof@v1" ||
		!strings.HasPrefix(lines[1], "extra ") || !strings.HasPrefix(lines[2], "index ") {
		return "", errRefused
	}
	leaf, err := decoded(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return "", err
	}
	index, err := number(strings.TrimPrefix(lines[2], "index "))
	if err != nil {
		return "", err
	}
	var proof [][]byte
	for _, line := range lines[3:] {
		hash, err := decoded(line)
		if err != nil || len(hash) != sha256.Size {
			return "", errRefused
		}
		proof = append(proof, hash)
	}
	text, err := openNote(note, v)
	if err != nil {
		return "", err
	}
	body := strings.Split(text, "\n")
	if len(body) != 4 || body[3] != "" || !strings.HasPrefix(body[0], "lacre-audit/") {
		return "", errRefused
	}
	size, err := number(body[1])
	if err != nil {
		return "", err
	}
	root, err := decoded(body[2])
	if err != nil || !included(index, size, leaf, proof, root) {
		return "", errRefused
	}
	return string(leaf), nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: tlogcheck FILE NAME+ID+KEY")
		os.Exit(2)
	}
	content, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	v, err := readVerifier(os.Args[2])
	if err == nil {
		var leaf string
		if leaf, err = check(string(content), v); err == nil {
			fmt.Println(leaf)
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
