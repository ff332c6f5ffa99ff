// SPDX-License-Identifier: Apache-2.0
// Values as the Nexus service of the first source document writes them, by its own code on Node's crypto: types, decorators
// and dependency injection taken out, nothing else. Node 20 or older: later ones have no createCipher.
//
// stdin: {"dataKeys": [{"plaintext", "ciphertext"}] in base64, "keyId", "values": [{"text", "context", "cipher"}]}
// stdout: [EncryptedField]. The KMS client is the one thing that is not there: data keys are those it is given.
'use strict';
const crypto = require('node:crypto');
if (!crypto.createCipher) throw new Error('Node 20 or older is needed: this one has no createCipher');
const input = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));

const left = (value) => ({ value, isLeft: () => true });
const right = (value) => ({ value, isLeft: () => false });

class KmsService {
  cmkId = input.keyId;

  async generateDataKey() {
    const { plaintext, ciphertext } = input.dataKeys.shift();
    return right({
      plaintextKey: Buffer.from(plaintext, 'base64'),
      encryptedKey: Buffer.from(ciphertext, 'base64'),
    });
  }
}

class EncryptionService {
  algorithm = 'aes-256-gcm';
  kmsService = new KmsService();

  async encryptField(plaintext, context) {
    try {
      // Gerar nova DEK para cada campo sensível
      const dataKeyResult = await this.kmsService.generateDataKey();
      if (dataKeyResult.isLeft()) {
        return left(dataKeyResult.value);
      }

      const { plaintextKey, encryptedKey } = dataKeyResult.value;

      // Gerar IV aleatório
      const iv = crypto.randomBytes(16);

      // Criar cipher
      const cipher = this.createCipher(this.algorithm, plaintextKey, iv);
      cipher.setAAD(this.buildAAD(context));

      // Criptografar dados
      let encrypted = cipher.update(plaintext, 'utf8');
      encrypted = Buffer.concat([encrypted, cipher.final()]);

      // Obter tag de autenticação
      const authTag = cipher.getAuthTag();

      return right({
        encryptedData: encrypted.toString('base64'),
        encryptedKey: encryptedKey.toString('base64'),
        iv: iv.toString('base64'),
        authTag: authTag.toString('base64'),
        algorithm: this.algorithm,
        keyId: this.kmsService.cmkId,
        context: context || {},
      });
    } catch (error) {
      return left(new Error(`Encryption failed: ${error.message}`));
    }
  }

  // The document's: the IV is drawn, stored and not used.
  createCipher(algorithm, plaintextKey) {
    return crypto.createCipher(algorithm, plaintextKey);
  }

  buildAAD(context) {
    const aadData = {
      userId: context?.userId || 'anonymous',
      timestamp: context?.timestamp || new Date().toISOString(),
      purpose: context?.purpose || 'data_encryption',
    };
    return Buffer.from(JSON.stringify(aadData), 'utf8');
  }
}

// What becomes of that service where createCipher is gone: the one line that Node's documentation gives for it.
class Successor extends EncryptionService {
  createCipher(algorithm, plaintextKey, iv) {
    return crypto.createCipheriv(algorithm, plaintextKey, iv);
  }
}

(async () => {
  const services = { createCipher: new EncryptionService(), createCipheriv: new Successor() };
  const made = [];
  for (const { text, context, cipher } of input.values) {
    const result = await services[cipher].encryptField(text, context ?? undefined);
    if (result.isLeft()) throw result.value;
    made.push(result.value);
  }
  process.stdout.write(JSON.stringify(made));
})();
