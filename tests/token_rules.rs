//! Tokens, as a class and not case by case: other people's test vectors, whatever claims an issuer
//! could sign, and the pipelines that the manual describes.

#[path = "tokens/pipelines.rs"]
mod pipelines;
#[path = "tokens/properties.rs"]
mod properties;
#[path = "tokens/vectors.rs"]
mod vectors;
mod support {
    #![allow(dead_code, unreachable_pub, reason = "each test uses its own part of this")]
    pub mod mint;
}
