# SPDX-License-Identifier: Apache-2.0
# Writes ../fixtures/rails.json with Active Record itself: ruby rails.rb > ../fixtures/rails.json
# (gem install activerecord; no database is needed). `ActiveRecord::Encryption` does all of it.
require "logger"
require "bigdecimal"
require "json"
require "rubygems"
require "active_support/all"
require "active_record"

KEYS = {
  primary_key: "test master key",
  deterministic_key: "test deterministic key",
  key_derivation_salt: "testing key derivation salt"
}
TEXTS = {
  "short" => "Ana Souza", "unicode" => "Zoë \u{1F98A} são 日本", "empty" => "",
  "long" => "Rua das Laranjeiras 1, " * 40, "json" => '{"p":"x","h":{"iv":"y"}}'
}
E = ActiveRecord::Encryption
values = []
%w[SHA1 SHA256].each do |digest|
  E.configure(**KEYS, hash_digest_class: OpenSSL::Digest.const_get(digest), support_sha1_for_non_deterministic_encryption: false)
  [false, true].each do |deterministic|
    provider = deterministic ? E::DeterministicKeyProvider.new(E.config.deterministic_key) : E::DerivedSecretKeyProvider.new(E.config.primary_key)
    TEXTS.each do |name, text|
      stored = E::Encryptor.new.encrypt(text.dup, key_provider: provider, cipher_options: { deterministic: deterministic })
      values << { name: name, digest: digest, deterministic: deterministic, stored: stored, value: text }
    end
  end
  # A key of before, in the list, and references to keys in the header `i`.
  E.config.store_key_references = true
  old = E::DerivedSecretKeyProvider.new("test former key")
  values << { name: "former key, referred to", digest: digest, deterministic: false, former: true, value: "Ana", stored: E::Encryptor.new.encrypt(+"Ana", key_provider: old) }
  E.config.store_key_references = false
  latin = (+"S\xE3o Paulo").force_encoding(Encoding::ISO_8859_1)
  stored = E::Encryptor.new.encrypt(latin, key_provider: E::DerivedSecretKeyProvider.new(E.config.primary_key))
  values << { name: "latin-1", digest: digest, deterministic: false, value: "S\u00E3o Paulo", stored: stored }
end
E.configure(**KEYS, hash_digest_class: OpenSSL::Digest::SHA256)
envelope = E::Encryptor.new.encrypt(+"Ana", key_provider: E::EnvelopeEncryptionKeyProvider.new)
plain = E::Encryptor.new(compress: false).encrypt(TEXTS["long"].dup, key_provider: E::DerivedSecretKeyProvider.new(E.config.primary_key)) rescue nil
values << { name: "not compressed", digest: "SHA256", deterministic: false, value: TEXTS["long"], stored: plain } if plain
puts JSON.pretty_generate(
  written_by: "activerecord #{ActiveRecord::VERSION::STRING}, ruby #{RUBY_VERSION}",
  keys: KEYS, former_key: "test former key", values: values, envelope: envelope
)
