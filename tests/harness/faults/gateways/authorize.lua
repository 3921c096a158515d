-- Asks the auth service about each call. Only its yes, 401, 403 and 429 are decisions.
local REFUSALS = {
  [400] = '{"error_code":"BAD_REQUEST","message":"A key has no control characters."}',
  [401] = '{"error_code":"UNAUTHENTICATED","message":"Who is there?"}',
  [403] = '{"error_code":"PERMISSION_DENIED","message":"Not with this key."}',
  [429] = '{"error_code":"REQUEST_LIMIT_EXCEEDED","message":"Slow down."}',
  [503] = '{"error_code":"TEMPORARILY_UNAVAILABLE","message":"Keys cannot be checked."}',
}
local OF_REFUSALS = {"www-authenticate", "retry-after"}

local function refuse(txn, status, said)
  local reply = txn:reply({status = status, body = REFUSALS[status]})
  reply:add_header("Content-Type", "application/json")
  for _, name in ipairs(OF_REFUSALS) do
    if said and said[name] then
      reply:add_header(name, said[name][0])
    end
  end
  txn:done(reply)
end

core.register_action("authorize", {"http-req"}, function(txn)
  local sent = txn.http:req_get_headers()
  local asked = {["x-forwarded-method"] = {txn.sf:method()}, ["x-forwarded-uri"] = {txn.sf:pathq()}}
  for _, name in ipairs({"authorization", "x-api-key"}) do
    local key = sent[name] and sent[name][0]
    if key and key:find("%c") then
      return refuse(txn, 400)
    end
    asked[name] = key and {key}
  end

  local answer = core.httpclient():get({url = "http://${auth}/forward-auth/mlflow", headers = asked, timeout = 3000})
  local said = answer.headers or {}
  if answer.status == 200 and said["x-auth-key-id"] then
    txn:set_var("txn.caller_user", said["x-auth-user"][0])
    txn:set_var("txn.caller_key_id", said["x-auth-key-id"][0])
  elseif answer.status ~= 200 and REFUSALS[answer.status] and answer.status ~= 400 then
    refuse(txn, answer.status, said)
  else
    refuse(txn, 503)
  end
end)
