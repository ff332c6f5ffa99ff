// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
)

// fromText is section 11.
func fromText(text string) ([]byte, error) {
	value, err := fromBase64(text)
	if err != nil || !looksLikeValue(value) {
		return nil, errTampered
	}
	return value, nil
}

func toText(value []byte) string {
	return base64.RawURLEncoding.EncodeToString(value)
}

func fromBase64(text string) ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	// Go skips line ends and, unless strict, ignores unused bits.
	if err != nil || base64.RawURLEncoding.EncodeToString(data) != text {
		return nil, errTampered
	}
	return data, nil
}

var algorithms = map[string]byte{
	"lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT":        0x00,
	"lacre-1-AES-256-GCM-HKDF-SHA512-COMMIT-PADDED": 0x01,
}

// fromJSON is section 12.
func fromJSON(text string) ([]byte, error) {
	texts, err := members(text)
	if err != nil {
		return nil, errTampered
	}
	flags, known := algorithms[texts["algorithm"]]
	keyID, err := hex.DecodeString(texts["keyId"])
	if !known || err != nil || len(keyID) != 16 || hex.EncodeToString(keyID) != texts["keyId"] || texts["encryptedKey"] != "" {
		return nil, errTampered
	}
	salt, err1 := fromBase64(texts["iv"])
	authTag, err2 := fromBase64(texts["authTag"])
	ciphertext, err3 := fromBase64(texts["encryptedData"])
	if err1 != nil || err2 != nil || err3 != nil || len(salt) != 24 || len(authTag) != 48 {
		return nil, errTampered
	}
	value := append([]byte{0xC1, 0x01, flags}, keyID...)
	value = append(value, salt...)
	value = append(value, authTag[:32]...)
	value = append(value, ciphertext...)
	value = append(value, authTag[32:]...)
	if !looksLikeValue(value) {
		return nil, errTampered
	}
	return value, nil
}

// members reads the one object: its six texts, and its empty context.
// encoding/json into a struct would accept repeated members and other cases.
func members(text string) (map[string]string, error) {
	texts := map[string]string{}
	context := false
	decoder := json.NewDecoder(strings.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errTampered
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errTampered
		}
		item, err := decoder.Token()
		if err != nil {
			return nil, errTampered
		}
		switch name {
		case "context":
			if end, err := decoder.Token(); context || item != json.Delim('{') || err != nil || end != json.Delim('}') {
				return nil, errTampered
			}
			context = true
		case "encryptedData", "encryptedKey", "iv", "authTag", "algorithm", "keyId":
			_, twice := texts[name.(string)]
			content, isText := item.(string)
			if twice || !isText {
				return nil, errTampered
			}
			texts[name.(string)] = content
		default:
			return nil, errTampered
		}
	}
	if _, err := decoder.Token(); err != nil || !context || len(texts) != 6 {
		return nil, errTampered
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errTampered
	}
	return texts, nil
}
