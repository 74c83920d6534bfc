"""Builds Tink's StreamingAead from the 32 bytes of a data key."""

import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

SEGMENT_BYTES = {"AES256_GCM_HKDF_4KB": 4096, "AES256_GCM_HKDF_1MB": 1 << 20}


def streaming_aead_for(alg: str, data_key: bytes) -> streaming_aead.StreamingAead:
    if alg not in SEGMENT_BYTES:
        raise ValueError(f"unknown alg {alg}; known are {', '.join(SEGMENT_BYTES)}")
    if len(data_key) != 32:
        raise ValueError(f"a data key has 32 bytes, this one has {len(data_key)}")
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(key_value=data_key)
    key.params.ciphertext_segment_size = SEGMENT_BYTES[alg]
    key.params.derived_key_size = 32
    key.params.hkdf_hash_type = common_pb2.SHA256
    keyset = tink_pb2.Keyset(primary_key_id=1)
    entry = keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW)
    entry.key_data.type_url = "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey"
    entry.key_data.key_material_type = tink_pb2.KeyData.SYMMETRIC
    entry.key_data.value = key.SerializeToString()
    streaming_aead.register()
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)
