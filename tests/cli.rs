//! Transcripts of the commands that need no server, in `tests/cli`: what people type, and what they are answered, word for word.
//! `TRYCMD=overwrite` writes what is answered now; look at the difference before it is kept.

#[test]
fn the_commands_answer_as_their_transcripts_say() {
    // What is around must not change what is answered.
    trycmd::TestCases::new()
        .env("NO_COLOR", "1")
        .env("USER", "me")
        .env("MAINSTAY_SERVER", "http://127.0.0.1:1")
        .case("tests/cli/*.md");
}
