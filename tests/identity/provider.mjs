// A certified OpenID provider with one client and whatever login is typed: the other side of test_oidc_provider.py.
import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const jwk = (type, options, extra) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }), use: "sig", ...extra,
});
const jwks = { keys: [jwk("rsa", { modulusLength: 2048 }, { kid: "r", alg: "RS256" }),
                      jwk("ec", { namedCurve: "P-256" }, { kid: "e", alg: "ES256" })] };

const gone = new Set();
const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const client = (id, alg) => ({
    client_id: id, token_endpoint_auth_method: "none", redirect_uris: ["http://127.0.0.1/cb", "http://127.0.0.1/oauth/callback"],
    application_type: "native", grant_types: ["authorization_code", "refresh_token"], response_types: ["code"],
    id_token_signed_response_alg: alg,
  });
  const provider = new Provider(issuer, {
    jwks,
    clients: [client("ostiary", "RS256"), client("ostiary-es", "ES256"), client("other-app", "RS256")],
    conformIdTokenClaims: false,
    claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "profile", "email", "groups"],
    cookies: { keys: ["test"] },
    issueRefreshToken: () => true,
    findAccount: (_, id) => gone.has(id) ? undefined : ({
      accountId: id,
      claims: () => ({ sub: id, name: "Ana Souza", email: `${id}@shop.example`, email_verified: true, groups: ["support"] }),
    }),
  });
  // Who has left: POST /test/gone/NAME, and /test/back/NAME.
  const answer = provider.callback();
  server.on("request", (asked, reply) => {
    const [, test, how, who] = asked.url.split("/");
    if (test !== "test") return answer(asked, reply);
    if (how === "gone") gone.add(who); else gone.delete(who);
    reply.end();
  });
  console.log(issuer);
});
