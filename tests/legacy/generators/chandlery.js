// SPDX-License-Identifier: Apache-2.0
// Values as the Ship Chandlery platform of the second source document writes them, by its own code on Node's crypto: types,
// decorators and dependency injection taken out, nothing else. Its subscriber runs too, so that its cache encrypts twice.
//
// stdin: {"kmsKey": base64 of 32 bytes, "table", "column", "values": [{"text", "saves"}], "dataKeys": of another key service, or none}
// stdout: [JSON text], what the column holds after *saves* saves, with what the platform does between them: it loads twice.
'use strict';
const crypto = require('node:crypto');
const input = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));

// The key service: a key in memory, and the encryption context bound as AWS KMS binds it.
class GenerateDataKeyCommand { constructor(request) { this.request = request; } }
class DecryptCommand { constructor(request) { this.request = request; } }

class KMSClient {
  key = Buffer.from(input.kmsKey, 'base64');

  aad(context) {
    return Buffer.from(JSON.stringify(Object.entries(context ?? {}).sort()), 'utf8');
  }

  async send(command) {
    const { EncryptionContext, CiphertextBlob } = command.request;
    if (command instanceof GenerateDataKeyCommand && input.dataKeys) {
      const { plaintext, ciphertext } = input.dataKeys.shift();
      return { Plaintext: Buffer.from(plaintext, 'base64'), CiphertextBlob: Buffer.from(ciphertext, 'base64') };
    }
    if (command instanceof GenerateDataKeyCommand) {
      const dataKey = crypto.randomBytes(32), iv = crypto.randomBytes(12);
      const cipher = crypto.createCipheriv('aes-256-gcm', this.key, iv);
      cipher.setAAD(this.aad(EncryptionContext));
      const sealed = Buffer.concat([cipher.update(dataKey), cipher.final()]);
      return { Plaintext: dataKey, CiphertextBlob: Buffer.concat([iv, sealed, cipher.getAuthTag()]) };
    }
    const decipher = crypto.createDecipheriv('aes-256-gcm', this.key, CiphertextBlob.subarray(0, 12));
    decipher.setAAD(this.aad(EncryptionContext));
    decipher.setAuthTag(CiphertextBlob.subarray(-16));
    return { Plaintext: Buffer.concat([decipher.update(CiphertextBlob.subarray(12, -16)), decipher.final()]) };
  }
}

class EncryptionService {
  kms = new KMSClient();
  keyId = 'alias/ship-chandlery';
  dekCache = new Map();
  DEK_CACHE_TTL = 5 * 60 * 1000; // 5 minutes

  async encrypt(plaintext, context) {
    // Generate a new data encryption key
    const { dataKey, encryptedDataKey } = await this.generateDataKey(context);

    // Encrypt the plaintext with the DEK
    const iv = crypto.randomBytes(16);
    const cipher = crypto.createCipheriv('aes-256-gcm', dataKey, iv);

    const plaintextBuffer = typeof plaintext === 'string'
      ? Buffer.from(plaintext, 'utf-8')
      : plaintext;

    const encrypted = Buffer.concat([
      cipher.update(plaintextBuffer),
      cipher.final(),
    ]);

    const authTag = cipher.getAuthTag();

    // Clear plaintext DEK from memory
    dataKey.fill(0);

    return {
      ciphertext: encrypted.toString('base64'),
      encryptedDataKey: encryptedDataKey.toString('base64'),
      iv: iv.toString('base64'),
      authTag: authTag.toString('base64'),
      algorithm: 'AES-256-GCM',
    };
  }

  async decrypt(encryptedData, context) {
    // Decrypt the data encryption key
    const dataKey = await this.decryptDataKey(
      Buffer.from(encryptedData.encryptedDataKey, 'base64'),
      context
    );

    // Decrypt the ciphertext with the DEK
    const decipher = crypto.createDecipheriv(
      'aes-256-gcm',
      dataKey,
      Buffer.from(encryptedData.iv, 'base64')
    );

    decipher.setAuthTag(Buffer.from(encryptedData.authTag, 'base64'));

    const decrypted = Buffer.concat([
      decipher.update(Buffer.from(encryptedData.ciphertext, 'base64')),
      decipher.final(),
    ]);

    // Clear DEK from memory
    dataKey.fill(0);

    return decrypted;
  }

  async generateDataKey(context) {
    const command = new GenerateDataKeyCommand({
      KeyId: this.keyId,
      KeySpec: 'AES_256',
      EncryptionContext: context,
    });

    const response = await this.kms.send(command);

    return {
      dataKey: Buffer.from(response.Plaintext),
      encryptedDataKey: Buffer.from(response.CiphertextBlob),
    };
  }

  async decryptDataKey(encryptedDataKey, context) {
    const cacheKey = encryptedDataKey.toString('base64');
    const cached = this.dekCache.get(cacheKey);

    if (cached && Date.now() < cached.expiresAt) {
      return Buffer.from(cached.dataKey);
    }

    const command = new DecryptCommand({
      CiphertextBlob: encryptedDataKey,
      KeyId: this.keyId,
      EncryptionContext: context,
    });

    const response = await this.kms.send(command);
    const dataKey = Buffer.from(response.Plaintext);

    // Cache the DEK
    this.dekCache.set(cacheKey, {
      dataKey: dataKey.toString('base64'),
      expiresAt: Date.now() + this.DEK_CACHE_TTL,
    });

    return dataKey;
  }
}

class EncryptionSubscriber {
  encryptionService = new EncryptionService();
  metadata = { tableName: input.table, columns: [{ propertyName: input.column }] };

  async encryptFields(entity) {
    const metadata = this.metadata;

    for (const column of metadata.columns) {
      if (entity[column.propertyName]) {
        const encrypted = await this.encryptionService.encrypt(
          entity[column.propertyName],
          { table: metadata.tableName, column: column.propertyName }
        );
        entity[column.propertyName] = JSON.stringify(encrypted);
      }
    }
  }

  async decryptFields(entity) {
    const metadata = this.metadata;

    for (const column of metadata.columns) {
      if (entity[column.propertyName]) {
        try {
          const encryptedData = JSON.parse(entity[column.propertyName]);
          const decrypted = await this.encryptionService.decrypt(
            encryptedData,
            { table: metadata.tableName, column: column.propertyName }
          );
          entity[column.propertyName] = decrypted.toString('utf-8');
        } catch (error) {
          // Field might not be encrypted (migration case)
        }
      }
    }
  }
}

(async () => {
  const subscriber = new EncryptionSubscriber();
  const made = [];
  for (const { text, saves } of input.values) {
    const entity = { [input.column]: text };
    await subscriber.encryptFields(entity);
    let row = { ...entity };
    for (let save = 1; save < saves; save += 1) {
      let loaded;
      for (const _ of [1, 2]) { // the second load within five minutes takes the key out of the cache
        loaded = { ...row };
        await subscriber.decryptFields(loaded);
      }
      await subscriber.encryptFields(loaded);
      row = { ...loaded };
    }
    made.push(row[input.column]);
  }
  process.stdout.write(JSON.stringify(made));
})();
