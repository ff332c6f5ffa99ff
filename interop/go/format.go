// SPDX-License-Identifier: Apache-2.0

// A second reader of lacre's field format 1, written from spec/field-format.md
// and not from the Python. Section numbers below are those of that page.
package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"math/big"
	"math/bits"
	"sort"
	"strings"
	"unicode/utf8"
)

// errTampered is the one refusal: it does not say why.
var errTampered = errors.New("tampered")

// errMisuse is for arguments that no caller may pass.
var errMisuse = errors.New("misuse")

const (
	overhead    = 91
	tagSize     = 16
	maxEncoding = 16 << 20
	maxValue    = 17301595
)

// label returns the 16 bytes of a label (section 3).
func label(text string) []byte {
	padded := make([]byte, 16)
	copy(padded, text)
	return padded
}

// hkdfExpand is RFC 5869, section 2.3, in its general form: the short form
// that section 3 of the specification derives from it is not assumed here.
func hkdfExpand(prk, info []byte, size int) []byte {
	var block, out []byte
	for counter := byte(1); len(out) < size; counter++ {
		mac := hmac.New(sha512.New, prk)
		mac.Write(block)
		mac.Write(info)
		mac.Write([]byte{counter})
		block = mac.Sum(nil)
		out = append(out, block...)
	}
	return out[:size]
}

func expand(key, labelBytes, x []byte, size int) ([]byte, error) {
	if len(key) != 32 || len(labelBytes) != 16 || size < 1 || size > 64 {
		return nil, errMisuse
	}
	info := append(append([]byte{}, labelBytes...), x...)
	return hkdfExpand(key, info, size), nil
}

// canonical is section 4.
func canonical(pairs map[string]string) ([]byte, error) {
	if len(pairs) == 0 || len(pairs) > 65535 {
		return nil, errMisuse
	}
	keys := make([]string, 0, len(pairs))
	for key := range pairs {
		keys = append(keys, key)
	}
	sort.Strings(keys) // Go compares strings by their bytes
	out := binary.BigEndian.AppendUint16(nil, uint16(len(keys)))
	for _, key := range keys {
		for _, text := range []string{key, pairs[key]} {
			if len(text) > 65535 || !utf8.ValidString(text) {
				return nil, errMisuse
			}
			out = binary.BigEndian.AppendUint16(out, uint16(len(text)))
			out = append(out, text...)
		}
	}
	return out, nil
}

// rowPart is one column of a primary key.
type rowPart struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// rowText is section 5.
func rowText(parts []rowPart) (string, error) {
	if len(parts) == 0 {
		return "", errMisuse
	}
	texts := make([]string, len(parts))
	for i, part := range parts {
		switch part.Type {
		case "uuid":
			texts[i] = strings.ToLower(strings.ReplaceAll(part.Value, "-", ""))
			if len(texts[i]) != 32 {
				return "", errMisuse
			}
		case "int":
			number, ok := new(big.Int).SetString(part.Value, 10)
			if !ok {
				return "", errMisuse
			}
			texts[i] = number.String()
		case "str":
			if part.Value == "" {
				return "", errMisuse
			}
			texts[i] = part.Value
		default:
			return "", errMisuse
		}
	}
	if len(texts) == 1 {
		return texts[0], nil
	}
	var out strings.Builder
	out.WriteByte('[')
	for i, text := range texts {
		if i > 0 {
			out.WriteByte(',')
		}
		writeJSONString(&out, text)
	}
	out.WriteByte(']')
	return out.String(), nil
}

// looksLikeValue is step 1 of section 7.
func looksLikeValue(value []byte) bool {
	return len(value) >= overhead && len(value) <= maxValue &&
		value[0] == 0xC1 && value[1] == 0x01 && value[2] <= 0x01
}

// open is section 7, up to and including the padding.
func open(key, keyID, value, context []byte, use string) ([]byte, error) {
	if !looksLikeValue(value) || !bytes.Equal(value[3:19], keyID) {
		return nil, errTampered
	}
	x := append(append([]byte{}, value[:43]...), context...)
	derived, err := expand(key, label(use), x, 64)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(derived[32:], value[43:75]) {
		return nil, errTampered
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	plaintext, err := gcm.Open(nil, make([]byte, 12), value[75:], nil)
	if err != nil {
		return nil, errTampered
	}
	if value[2] == 0x01 {
		if plaintext, err = unpad(plaintext); err != nil {
			return nil, err
		}
	}
	if len(plaintext) > maxEncoding {
		return nil, errTampered
	}
	return plaintext, nil
}

// paddedLength is section 8.
func paddedLength(n int) int {
	m := n + 1
	if m <= 256 {
		return (m + 31) / 32 * 32
	}
	e := bits.Len(uint(m)) - 1
	s := bits.Len(uint(e))
	step := 1 << uint(e-s)
	return (m + step - 1) / step * step
}

func unpad(padded []byte) ([]byte, error) {
	end := len(padded)
	for end > 0 && padded[end-1] == 0 {
		end--
	}
	if end == 0 || padded[end-1] != 0x80 || paddedLength(end-1) != len(padded) {
		return nil, errTampered
	}
	return padded[:end-1], nil
}

// blindIndex is section 10.
func blindIndex(root []byte, place map[string]string, normalised []byte, width int) (key, token []byte, err error) {
	if width < 1 || width > 512 {
		return nil, nil, errMisuse
	}
	context, err := canonical(place)
	if err != nil {
		return nil, nil, err
	}
	if key, err = expand(root, label("lacre/1/index"), context, 32); err != nil {
		return nil, nil, err
	}
	mac := hmac.New(sha512.New, key)
	mac.Write(normalised)
	token = mac.Sum(nil)[:(width+7)/8]
	if spare := len(token)*8 - width; spare > 0 {
		token[len(token)-1] = token[len(token)-1] >> uint(spare) << uint(spare)
	}
	return key, token, nil
}

// indexNumber is the signed 32-bit integer that a token of up to 32 bits is stored as.
func indexNumber(token []byte, width int) int32 {
	var number uint64
	for _, each := range token {
		number = number<<8 | uint64(each)
	}
	return int32(uint32(number >> uint(len(token)*8-width)))
}
